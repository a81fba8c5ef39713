"""Tiny folders that hold the files of a model family, for imports; the families are in family_folders."""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.model.checks import KNOWN_TEXT

WORDS = 400  # beyond the special tokens
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
}
GPT2_SIZE = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 256}


@dataclass
class Family:
    """What a folder holds; tokens are named by their text, and become ids where a file has ids.

    tokens: special ones, in the order of their ids, before all others. late: after all others. config:
    config.json. tokenizer, special, generation: tokenizer_config.json, special_tokens_map.json and
    generation_config.json. files: others. split: how text is split. bos: in the post-processor. padded: rows
    of the embedding beyond the tokenizer's ids. buffers: old ones among the weights, by suffix.
    """

    config: dict[str, Any]
    tokens: tuple[str, ...] = ("<|endoftext|>",)
    late: tuple[str, ...] = ()
    tokenizer: dict[str, Any] = field(default_factory=dict)
    special: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    files: dict[str, str] = field(default_factory=dict)
    split: str = "bytes"
    bos: str | None = None
    padded: int = 0
    pickled: bool = False
    buffers: tuple[str, ...] = ()
    prefix: str = ""  # removed from the weights' names
    start: str | None = None  # the token before the text that the model knows; None: EOS of config.json

    def write(self, folder, pieces=None):
        """Write the folder, with a model that knows the text of the import's check. Returns the tokenizer.

        `pieces`: a SentencePiece model, for the split of that name.
        """
        folder.mkdir(parents=True)
        backend = self._tokenizer(folder, pieces)
        ids = backend.get_vocab()
        config = {key: _ids(value, ids) for key, value in self.config.items()}
        size = len(ids) - len(self.late) + self.padded
        config = {"vocab_size": size, **config}
        model = _trained(config, backend, ids[self.start] if self.start else _first(config["eos_token_id"]))
        model.save_pretrained(folder)
        self._weights(folder, model)
        written = json.loads((folder / "config.json").read_text())
        _write(folder / "config.json", {**written, **config, "torch_dtype": "bfloat16"})
        _write(folder / "tokenizer_config.json", self.tokenizer)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if self.special is not None:
            plain = {key: _without_type(value) for key, value in self.special.items()}
            _write(folder / "special_tokens_map.json", plain)
        if self.generation is not None:
            generation = {key: _ids(value, ids) for key, value in self.generation.items()}
            _write(folder / "generation_config.json", generation)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        return backend

    def _tokenizer(self, folder, pieces):
        if self.split == "pieces":
            (folder / "tokenizer.model").write_bytes(pieces.read_bytes())
            from cpt.model.pieces import tokenizer_of_pieces

            return tokenizer_of_pieces(pieces)
        backend = bpe(self.tokens, self.split)
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.late])
        byte_level = processors.ByteLevel(trim_offsets=False)
        backend.post_processor = byte_level
        if self.bos:
            pair, ids = f"{self.bos} $A {self.bos}:1 $B:1", [(self.bos, backend.token_to_id(self.bos))]
            template = processors.TemplateProcessing(f"{self.bos} $A", pair, ids)
            backend.post_processor = processors.Sequence([byte_level, template])
        if self.split == "merges":
            backend.model.save(str(folder))
        else:
            backend.save(str(folder / "tokenizer.json"))
        return backend

    def _weights(self, folder, model):
        weights = load_file(folder / "model.safetensors")
        masks = {"masked_bias": torch.tensor(-1e9), "inv_freq": torch.ones(4)}
        for suffix in self.buffers:
            mask = masks.get(suffix.split(".")[-1], torch.ones(1, 1, 256, 256, dtype=torch.bool))
            layers = "gpt_neox.layers" if model.config.model_type == "gpt_neox" else "transformer.h"
            weights |= {f"{layers}.{layer}.{suffix}": mask.clone() for layer in range(2)}
        weights = {name.removeprefix(self.prefix): weight for name, weight in weights.items()}
        if self.pickled:
            (folder / "model.safetensors").unlink()
            torch.save(weights, folder / "pytorch_model.bin")
        else:
            save_file(weights, folder / "model.safetensors", {"format": "pt"})


def bpe(tokens, split, words=WORDS):
    """A BPE tokenizer with these special tokens first."""
    unknown = {"byte_fallback": True, "unk_token": "<unk>"} if split == "spaces" else {}
    backend = Tokenizer(models.BPE(**unknown))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split in ("bytes", "digits", "merges"))
    if split == "spaces":  # Gemma, Mistral
        backend.normalizer = normalizers.Replace(" ", "\u2581")
        backend.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
        steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence(steps)
        alphabet = sorted(set(KNOWN_TEXT.replace(" ", "\u2581")))
    else:
        digits = {"digits": pre_tokenizers.Digits(individual_digits=True)}
        digits["pattern"] = pre_tokenizers.Split(
            Regex(r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"
        )
        first = [digits[split]] if split in digits else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*first, level])
        backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words + len(tokens),
        special_tokens=list(tokens),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator([KNOWN_TEXT], trainer)
    return backend


def _trained(config, backend, start):
    """A model that knows KNOWN_TEXT after the id `start`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).train()
    ids = torch.tensor([[start, *backend.encode(KNOWN_TEXT, add_special_tokens=False).ids]])
    ids = ids[:, : SIZE["max_position_embeddings"]]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 2.5:
            break
    return model.eval()


def _ids(value, ids):
    if isinstance(value, list):
        return [_ids(item, ids) for item in value]
    return ids.get(value, value) if isinstance(value, str) else value


def _without_type(value):
    return {key: item for key, item in value.items() if key != "__type"} if isinstance(value, dict) else value


def _first(value):
    return value[0] if isinstance(value, list) else value


def _write(file, value):
    file.write_text(json.dumps(value, indent=2))


def token(text):
    """A special token as older tokenizer_config.json files have it."""
    keys = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"__type": "AddedToken", "content": text, **keys}
