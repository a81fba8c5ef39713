"""A loaded model and its tokenizer, and how they are saved as a plain Hugging Face folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.model.ends import Ends
from cpt.model_folders import name_rotary_base

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
# Keys of tokenizer_config.json about the class that reads it and its place on the author's disk. Here it is
# a fast tokenizer of the general class, under the name that both transformers 4 and 5 know.
CLASS_KEYS = ("tokenizer_class", "auto_map", "tokenizer_file", "vocab_file", "name_or_path", "is_local")
CLASS_KEYS += ("backend", "local_files_only")
TOKENIZER_CLASS = "PreTrainedTokenizerFast"


@dataclass
class Loaded:
    """A model as every source returns it.

    `facts` are lines for the import report (revision, licence, ...), `repairs` describes what had to be
    changed. The tokenizer's EOS is the token that separates documents; `ends` has it and the ends of
    generation. `settings` and `generation` are the source's tokenizer_config.json and generation_config.json,
    `files` the content of its other files that are kept, by name. `adds_bos`: the source's tokenizer puts BOS
    before a text.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    facts: dict[str, Any] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    ends: Ends | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    files: dict[Path, bytes] = field(default_factory=dict)
    adds_bos: bool = False

    def save(self, folder: Path) -> None:
        """Write config.json, generation_config.json, model.safetensors, the tokenizer's and all other files.

        `eos_token_id` of config.json becomes one int, the document separator; that of generation_config.json
        has it and the ends of a turn. Raises UserError if the tokenizer has no EOS, or has ids that the model
        lacks and that text can produce.
        """
        config, tokenizer = self.model.config, self.tokenizer
        if tokenizer.eos_token_id is None:
            raise UserError(
                "base: the tokenizer names no EOS token, so documents can't be separated (a GGUF file names "
                "it in tokenizer.ggml.eos_token_id); take another file, or the model's Hugging Face folder"
            )
        self._check_ids()
        if config.eos_token_id != tokenizer.eos_token_id:
            self.repairs.append(
                f"config.eos_token_id: {tokenizer.eos_token_id} ({tokenizer.eos_token!r}) instead of "
                f"{config.eos_token_id!r}"
            )
        config.eos_token_id = tokenizer.eos_token_id
        config.bos_token_id = tokenizer.bos_token_id
        config.pad_token_id = None  # nothing is padded in training, and scoring masks by length
        ends = self.ends.generation if self.ends else [config.eos_token_id]
        self.model.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
        )
        self.model.save_pretrained(folder, max_shard_size="1TB")
        name_rotary_base(folder)
        tokenizer.save_pretrained(folder)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        _edit(folder / "special_tokens_map.json", eos_token=tokenizer.eos_token)
        self._save_settings(folder / "tokenizer_config.json")
        kept = {key: value for key, value in self.generation.items() if not key.startswith(("_", "output_"))}
        kept = {"bos_token_id": config.bos_token_id} | kept
        kept["eos_token_id"] = ends if len(ends) > 1 else ends[0]
        _write(folder / "generation_config.json", {k: v for k, v in kept.items() if v is not None})
        self.facts |= {
            "document_separator": tokenizer.eos_token,
            "ends_of_generation": {tokenizer.convert_ids_to_tokens(id): id for id in ends},
            "chat_templates": sorted(_templates_by_name(tokenizer.chat_template)),
        }

    def _save_settings(self, file: Path) -> None:
        """Write tokenizer_config.json: the source's own, overridden by what the import decides."""
        ours = json.loads(file.read_text(encoding="utf-8"))
        kept = {key: value for key, value in self.settings.items() if key not in CLASS_KEYS}
        decided = {"model_max_length": self.tokenizer.model_max_length, "tokenizer_class": TOKENIZER_CLASS}
        for name in SPECIAL_TOKENS:  # the source's entry, which may be a mapping, stays if the token is equal
            if token_text(kept.get(name)) != getattr(self.tokenizer, name):
                decided[name] = getattr(self.tokenizer, name)
        merged = {key: value for key, value in ours.items() if key not in CLASS_KEYS} | kept | decided
        _write(file, merged)

    def _check_ids(self) -> None:
        """Raise UserError for ids beyond the embedding, except special tokens that no text or chat yields."""
        rows, tokenizer = self.model.config.vocab_size, self.tokenizer
        added = tokenizer.added_tokens_decoder
        special = {id for id, token in added.items() if token.special}
        used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
        used |= set(self.ends.generation) if self.ends else set()
        beyond = sorted((id, token) for token, id in tokenizer.get_vocab().items() if id >= rows)
        wrong = [(id, token) for id, token in beyond if id not in special or id in used]
        if wrong and all(id in added for id, _ in beyond):
            raise UserError(
                f"base: {wrong[0][1]!r} (id {wrong[0][0]}) was added to the tokenizer, but the embedding has "
                f"only {rows} rows; resize it (resize_token_embeddings) and save both, or take the "
                "tokenizer without the token"
            )
        if wrong:
            raise UserError(
                f"base: the tokenizer has ids up to {wrong[-1][0]}, but the embedding only {rows} rows "
                "(vocab_size in config.json), so they belong to different models; take both from one release"
            )
        if beyond:
            self.repairs.append(
                f"tokenizer: {', '.join(repr(token) for _, token in beyond[:5])} beyond the embedding of "
                f"{rows} ids (id {beyond[0][0]} on): kept, as text never becomes a special token"
            )


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file, if it exists and has other values."""
    if file.is_file():
        value = json.loads(file.read_text(encoding="utf-8"))
        changed = {key: new for key, new in changes.items() if token_text(value.get(key)) != new}
        if changed:
            _write(file, value | changed)


def _templates_by_name(templates: str | dict[str, str] | None) -> dict[str, str]:
    return templates if isinstance(templates, dict) else {"default": templates} if templates else {}


def fast_tokenizer(backend: Any, config: dict[str, Any], context_length: int) -> PreTrainedTokenizerFast:
    """Returns a tokenizer that does exactly what `backend` (a tokenizers.Tokenizer) does.

    AutoTokenizer isn't used: since transformers 5 it replaces the pre-tokenizer of tokenizer.json by its own
    for the model's family, which changes ids. `config` is the content of tokenizer_config.json; its special
    tokens and chat template (or several by name) are set.
    """
    special = {name: token_text(config.get(name)) for name in SPECIAL_TOKENS}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
        **{name: text for name, text in special.items() if text},
    )
    tokenizer.chat_template = config.get("chat_template")
    return tokenizer


def token_text(token: Any) -> str | None:
    """Returns the text of a special token in tokenizer_config.json, where it may be a mapping."""
    return token.get("content") if isinstance(token, dict) else token
