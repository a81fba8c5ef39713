"""Reads a GGUF file (quantised weights, tokenizer and settings in one) as a float32 Llama.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package reads it, and this
module maps it. transformers' own reader needs another package, ignores the file's pre-tokenizer, and returns
a model that can't be saved.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.errors import UserError
from cpt.model.ends import find_ends
from cpt.model.loaded import Loaded, fast_tokenizer
from cpt.templates import with_eos

GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
PRE_TOKENIZERS = {  # by tokenizer.ggml.pre
    "gpt-2": BYTE_LEVEL,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]),
}


class _Header:
    """The key-value part of a GGUF file."""

    def __init__(self, reader: GGUFReader, path: Path):
        self.fields, self.path = reader.fields, path

    def get(self, key: str) -> Any:
        return self.fields[key].contents() if key in self.fields else None

    def need(self, key: str) -> Any:
        if key not in self.fields:
            raise UserError(
                f"{self.path.name}: the GGUF key {key} is missing, so the file is incomplete; take another "
                "one (base.file)"
            )
        return self.fields[key].contents()

    def expect(self, key: str, among: tuple[str, ...]) -> str:
        value = self.need(key)
        if value not in among:
            raise UserError(
                f"{self.path.name}: {key} is {value!r}, but only {', '.join(among)} can be read from GGUF; "
                "use the model's Hugging Face folder instead (base.source: hub or local)"
            )
        return value


def load_gguf(path: Path) -> Loaded:
    """Read a Llama from a GGUF file. Quantised weights are dequantised to float32, so nothing is rounded.

    The document separator becomes EOS, because chat models name their end of turn as EOS (cpt.model.ends).

    Raises UserError for another architecture, another kind of tokenizer, and missing or unexpected weights.
    """
    try:
        reader = GGUFReader(path)
    except ValueError as error:
        raise UserError(f"{path.name}: not a GGUF file ({error}); correct base.file") from None
    header = _Header(reader, path)
    config = _config(header, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    model = LlamaForCausalLM(config)
    _load_weights(model, reader, path)
    backend = _tokenizer(header)
    tokens = header.need("tokenizer.ggml.tokens")
    special, repairs = {}, []
    for name, key in (("bos_token", "bos"), ("eos_token", "eos")):
        if (token_id := header.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            special[name] = tokens[token_id]
    special["chat_template"] = templates = _templates(header)
    turns = [header.get(f"tokenizer.ggml.{key}_token_id") for key in ("eot", "eom")]
    ends = find_ends(backend, None, None, special.get("eos_token"), templates, turns)
    if ends and (separator := tokens[ends.separator]) != special["eos_token"]:
        repairs.append(
            f"tokenizer: EOS is {separator!r}, which separates documents, not {special['eos_token']!r}"
        )
        special["chat_template"] = _with_eos(templates, special["eos_token"])
        special["eos_token"] = separator
    tokenizer = fast_tokenizer(backend, special, config.max_position_embeddings)
    facts = {
        "name": header.get("general.name"),
        "licence": header.get("general.license"),
        "weights_were": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
    }
    adds_bos = bool(special.get("bos_token") and header.get("tokenizer.ggml.add_bos_token"))
    return Loaded(model, tokenizer, facts, repairs, ends, adds_bos=adds_bos)


def _templates(header: _Header) -> str | dict[str, str] | None:
    """Returns the chat template, or several by name."""
    named = header.get("tokenizer.chat_templates") or []
    single, names = header.get("tokenizer.chat_template"), [named] if isinstance(named, str) else named
    further = {name: header.need(f"tokenizer.chat_template.{name}") for name in names}
    return {"default": single, **further} if further and single else further or single


def _with_eos(templates: str | dict[str, str] | None, token: str) -> str | dict[str, str] | None:
    """Returns the templates with `eos_token` fixed to `token`, for a tokenizer with another EOS."""
    if isinstance(templates, dict):
        return {name: with_eos(text, token) for name, text in templates.items()}
    return with_eos(templates, token) if templates else None


def _config(header: _Header, tied: bool) -> LlamaConfig:
    header.expect("general.architecture", ("llama",))
    if header.get("llama.rope.scaling.type") not in (None, "none"):
        header.expect("llama.rope.scaling.type", ("none",))
    # Stored as float32: the intended value is the shortest decimal that gives the same float32 (1e-05).
    epsilon = float(str(np.float32(header.need("llama.attention.layer_norm_rms_epsilon"))))
    heads = header.need("llama.attention.head_count")
    return LlamaConfig(
        vocab_size=len(header.need("tokenizer.ggml.tokens")),
        hidden_size=header.need("llama.embedding_length"),
        intermediate_size=header.need("llama.feed_forward_length"),
        num_hidden_layers=header.need("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=header.get("llama.attention.head_count_kv") or heads,
        max_position_embeddings=header.need("llama.context_length"),
        rms_norm_eps=epsilon,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(header.get("llama.rope.freq_base") or 10_000.0),
        },
        tie_word_embeddings=tied,
        bos_token_id=header.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=header.get("tokenizer.ggml.eos_token_id"),
        dtype="float32",
    )


def _load_weights(model: LlamaForCausalLM, reader: GGUFReader, path: Path) -> None:
    config = model.config
    heads = {"attn_q.weight": config.num_attention_heads, "attn_k.weight": config.num_key_value_heads}
    state, unexpected = {}, []
    for tensor in reader.tensors:
        block = tensor.name.split(".", 2)
        inner = block[2] if block[0] == "blk" and len(block) == 3 else ""
        if tensor.name in GLOBAL_NAMES:
            name = GLOBAL_NAMES[tensor.name]
        elif inner in LAYER_NAMES:
            name = f"model.layers.{block[1]}.{LAYER_NAMES[inner]}"
        else:
            unexpected.append(tensor.name)
            continue
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        state[name] = torch.from_numpy(_halves_apart(values, heads[inner]) if inner in heads else values)
    missing, foreign = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not (config.tie_word_embeddings and name == "lm_head.weight")]
    if missing or unexpected or foreign:
        raise UserError(
            f"{path.name}: weights don't fit a Llama; missing: {missing or 'none'}; "
            f"unexpected: {[*unexpected, *foreign] or 'none'}; take another file (base.file), or the model's "
            "Hugging Face folder (base.source: hub or local)"
        )


def _halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo GGUF's order of the rows of query and key projections, float32 [rows, columns].

    GGUF's Llama rotates neighbouring rows of a head (0, 1), (2, 3), ...; transformers' Llama rotates row i
    with row i + half. (The permutation is in llama.cpp's convert_hf_to_gguf.py.)
    """
    rows, columns = weight.shape
    paired = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(paired.swapaxes(1, 2).reshape(rows, columns))


def _tokenizer(header: _Header) -> Tokenizer:
    """Returns the file's byte-level BPE tokenizer; control tokens become special tokens."""
    header.expect("tokenizer.ggml.model", ("gpt2",))
    pre = header.expect("tokenizer.ggml.pre", tuple(PRE_TOKENIZERS))
    tokens, kinds = header.need("tokenizer.ggml.tokens"), header.need("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in header.need("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
