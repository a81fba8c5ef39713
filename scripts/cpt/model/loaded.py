"""A model and its tokenizer on their way into a plain Hugging Face folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass
class Loaded:
    """What every source gives.

    `facts` are lines for the import report (revision, licence, ...), `mended` says in words what had to
    be changed. The tokenizer's EOS is the token that separates documents.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    facts: dict[str, Any] = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write config.json, generation_config.json, model.safetensors and the tokenizer's files.

        `eos_token_id` becomes one int, the document separator. Raises UserError if there is none, or if
        the tokenizer has ids that the model doesn't know.
        """
        config, tokenizer = self.model.config, self.tokenizer
        if tokenizer.eos_token_id is None:
            raise UserError(
                "base: the tokenizer names no EOS token, so documents can't be separated (a GGUF file names "
                "it in tokenizer.ggml.eos_token_id); take another file, or the model's Hugging Face folder"
            )
        largest = max(tokenizer.get_vocab().values())
        if largest >= config.vocab_size:
            raise UserError(
                f"base: the tokenizer has id {largest}, but the model knows only {config.vocab_size} ids "
                "(vocab_size in config.json), so they belong to different models; take both from one release"
            )
        if config.eos_token_id != tokenizer.eos_token_id:
            self.mended.append(
                f"config.eos_token_id: {tokenizer.eos_token_id} ({tokenizer.eos_token!r}) instead of "
                f"{config.eos_token_id!r}"
            )
        config.eos_token_id = tokenizer.eos_token_id
        config.bos_token_id = tokenizer.bos_token_id
        config.pad_token_id = None  # nothing is padded in training, and scoring masks by length
        self.model.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
        )
        self.model.save_pretrained(folder, max_shard_size="1TB")
        tokenizer.save_pretrained(folder)
        # safetensors makes its file readable for the owner alone; give it the mode of its neighbours.
        (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def fast_tokenizer(backend: Any, config: dict[str, Any], context_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer that does exactly what `backend` (a tokenizers.Tokenizer) does.

    Not AutoTokenizer: since transformers 5 it lays its own pre-tokenizer for the model's family over
    tokenizer.json, and other ids come out. `config` is the content of tokenizer_config.json, of which the
    special tokens and the chat template are kept.
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
    """The text of a special token in tokenizer_config.json, where it may be a mapping."""
    return token.get("content") if isinstance(token, dict) else token
