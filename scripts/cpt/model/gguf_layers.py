"""Settings, names and order of weights that llama.cpp expects of each architecture in a GGUF file.

They follow llama.cpp's convert_hf_to_gguf.py (https://github.com/ggml-org/llama.cpp, folder `conversion`). A
model that llama.cpp would compute differently is refused.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, RopeScalingType, get_tensor_name_map
from transformers import PreTrainedConfig

from cpt.errors import UserError
from cpt.gguf_types import require_architecture

# Keys of config.json and the values that llama.cpp assumes regardless of the file; missing keys fit.
ASSUMED: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
    },
    "gptneox": {"hidden_act": ("gelu", "gelu_new", "gelu_fast"), "attention_bias": (True,)},
    "gemma3": {"hidden_activation": ("gelu_pytorch_tanh",), "attention_bias": (False,)},
    "llama": {"hidden_act": ("silu",)},
    "smollm3": {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,)},
    "qwen2": {"hidden_act": ("silu",)},
    "qwen3": {"hidden_act": ("silu",), "attention_bias": (False,)},
    "phi3": {"hidden_act": ("silu",)},
    "olmo2": {"hidden_act": ("silu",), "attention_bias": (False,)},
}
GEMMA_PERIOD = 6  # every sixth layer attends to all tokens, the others to a window


def architecture_of(config: PreTrainedConfig) -> str:
    """Returns llama.cpp's name of the architecture. Raises UserError if it is missing or would differ."""
    name = require_architecture(config.model_type)
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    fixed = dict(ASSUMED[name])
    if name == "gemma3":
        pattern = [(layer + 1) % GEMMA_PERIOD != 0 for layer in range(layers)]
        fixed["layer_types"] = (["sliding_attention" if near else "full_attention" for near in pattern],)
        fixed["query_pre_attn_scalar"] = (config.head_dim if layers != 62 else config.hidden_size // heads,)
    if name == "smollm3":
        fixed["no_rope_layers"] = ([int((layer + 1) % 4 != 0) for layer in range(layers)],)
    for key, values in fixed.items():
        if (value := getattr(config, key, values[0])) not in values:
            raise UserError(
                f"release.gguf: config.json has {key}: {value!r}, but llama.cpp computes a "
                f"{config.model_type} with {' or '.join(map(repr, values))}, so its answers would be wrong; "
                "remove release.gguf"
            )
    return name


def tensor_names(architecture: str, layers: int) -> Callable[[str], str | None]:
    """Returns a function from a weight's name in a Hugging Face folder to its name in GGUF, or to None."""
    kind = next(arch for arch in MODEL_ARCH if MODEL_ARCH_NAMES[arch] == architecture)
    names = get_tensor_name_map(kind, layers)
    return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))


def to_gguf(weight: np.ndarray, name: str, architecture: str, config: PreTrainedConfig) -> np.ndarray:
    """Returns a weight, float32, as llama.cpp stores it; `name` is its name in the Hugging Face folder."""
    if (heads := _paired_heads(name, architecture, config)) is not None:
        halves = weight.reshape(heads, 2, len(weight) // heads // 2, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)
    if architecture == "gptneox" and ".query_key_value." in name:
        heads = config.num_attention_heads
        return weight.reshape(heads, 3, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)
    if architecture == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return weight.T
    return weight + 1 if architecture == "gemma3" and name.endswith("norm.weight") else weight


def from_gguf(weight: np.ndarray, name: str, architecture: str, config: PreTrainedConfig) -> np.ndarray:
    """Undo `to_gguf`."""
    if (heads := _paired_heads(name, architecture, config)) is not None:
        pairs = weight.reshape(heads, len(weight) // heads // 2, 2, *weight.shape[1:])
        return pairs.swapaxes(1, 2).reshape(weight.shape)
    if architecture == "gptneox" and ".query_key_value." in name:
        heads = config.num_attention_heads
        return weight.reshape(3, heads, -1, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)
    if architecture == "gemma3" and name.endswith("norm.weight"):
        return weight - 1
    return to_gguf(weight, name, architecture, config)  # a transpose, or nothing


def _paired_heads(name: str, architecture: str, config: PreTrainedConfig) -> int | None:
    """Returns the heads of a projection whose neighbouring rows (not halves) llama.cpp rotates, else None."""
    if architecture not in ("llama", "smollm3"):
        return None
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return next((count for part, count in heads.items() if f".{part}." in name), None)


def write_settings(writer: GGUFWriter, architecture: str, config: PreTrainedConfig) -> None:
    """Write the architecture's keys. Raises UserError for rotary positions that llama.cpp doesn't support."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(_context(architecture, config))
    writer.add_embedding_length(config.hidden_size)
    width = config.n_inner or 4 * config.n_embd if architecture == "gpt2" else config.intermediate_size
    writer.add_feed_forward_length(width)
    writer.add_head_count(config.num_attention_heads)
    if architecture not in ("gpt2", "gptneox"):
        writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_vocab_size(config.vocab_size)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", None) or config.layer_norm_epsilon)
    if architecture == "gptneox":
        writer.add_parallel_residual(config.use_parallel_residual)
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern(GEMMA_PERIOD)
        writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    if architecture != "gpt2":
        _write_rotary(writer, architecture, config)


def _context(architecture: str, config: PreTrainedConfig) -> int:
    """Returns the longest text that llama.cpp computes correctly: it has only Gemma's attention windows."""
    context, window = config.max_position_embeddings, getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return (
        min(context, window)
        if window and architecture != "gemma3" and "sliding_attention" in kinds
        else context
    )


def _write_rotary(writer: GGUFWriter, architecture: str, config: PreTrainedConfig) -> None:
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    size = _head_size(config)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(int(size * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn" and not rope.get("attention_factor"):
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope.get("beta_fast", 32))
        writer.add_rope_scaling_yarn_beta_slow(rope.get("beta_slow", 1))
    elif kind != "default" and not (kind == "llama3" and architecture == "llama"):
        raise UserError(
            f"release.gguf: rotary positions of the type {kind!r} in config.json can't be written as GGUF "
            f"for a {config.model_type}; remove release.gguf, or convert the released folder with "
            "llama.cpp's convert_hf_to_gguf.py"
        )


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rotary_factors(config: PreTrainedConfig) -> np.ndarray | None:
    """Returns Llama 3's divisors of rotary frequencies, a weight in GGUF: float32 [head size / 2].

    None for other rotary positions.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return None
    size = _head_size(config)
    lengths = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, size, 2) / size)
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (original / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(
        lengths < original / high, 1.0, np.where(lengths > original / low, factor, between)
    ).astype(np.float32)
