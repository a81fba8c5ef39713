"""Layers that torch.compile fuses; in Llama's, products of the same factor become one first.

Queries, keys and values come from one product, gate and up from another: the input is read twice instead of
five times a layer, and its gradient is one product instead of a sum of several. The weights stay where they
are, so that state dicts don't change; they are put side by side in each forward pass.
"""

import importlib.util
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRotaryEmbedding,
    eager_attention_forward,
)

from cpt import compilers


def compiles(settings: dict[str, Any], device: torch.device) -> bool:
    """Whether a plan's settings ask for compiled layers on this device."""
    return settings["compile"] is True or (settings["compile"] == "auto" and can_compile(device))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile pays: on a GPU for which there is Triton, and the C compiler that it needs."""
    if device.type != "cuda":
        return False
    triton = importlib.util.find_spec("triton") is not None
    error = compilers.c_error() if triton else "Triton isn't installed, which PyTorch's builds for GPUs bring"
    if error:
        logging.warning("compile: auto compiles nothing, so steps take longer: %s", error)
    return not error


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile fuse what lies between a layer's matrix products.

    Layers that are alike share one compilation for each shape of a micro-batch, for the sizes are fixed.
    Parameters keep their names.
    """
    for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
        layer.compile(dynamic=False)


def keep_residual_in_bfloat16(model: nn.Module) -> None:
    """Under autocast, let layers pass on bfloat16: the embeddings' float32 would make each layer's output so.

    It is what layers cast to bfloat16 pass on too (FSDP, DeepSpeed). Norms compute in float32.
    """
    model.get_input_embeddings().register_forward_hook(lambda module, given, output: output.bfloat16())


def join_products(model: nn.Module) -> None:
    """Give a Llama's layers the forward pass of this module; others, and those with biases, stay."""
    for module in model.modules():
        if type(module) is LlamaDecoderLayer and module.mlp.gate_proj.bias is None:
            module.__class__ = JoinedLayer
        elif type(module) is LlamaAttention and module.q_proj.bias is None:
            module.__class__ = JoinedAttention
        elif type(module) is LlamaRotaryEmbedding and not module.config.attention_bias:
            # Sines and cosines get the precision of its first argument.
            module.register_forward_pre_hook(
                lambda module, given: (given[0].new_empty(0, dtype=torch.float32),)
            )


class JoinedLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache, the feed-forward part written out.

    Its RMSNorm is linear but for a factor per token, so the norm's weights go into the product's and the
    factor into the kernel after it: normalised states are neither written, nor kept for the backward pass.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: None = None,
        use_cache: bool = False,
        **arguments: Any,
    ) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **arguments)
        hidden_states = hidden_states + attended
        norm, mlp = self.post_attention_layernorm, self.mlp
        scale = torch.rsqrt(hidden_states.float().square().mean(-1, keepdim=True) + norm.variance_epsilon)
        weights = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * norm.weight
        gate, up = (part * scale for part in linear(hidden_states, weights).chunk(2, dim=-1))
        return hidden_states + mlp.down_proj((mlp.act_fn(gate) * up).to(hidden_states.dtype))


class JoinedAttention(LlamaAttention):
    """LlamaAttention.forward without a cache."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        **arguments: Any,
    ) -> tuple[torch.Tensor, None]:
        parts = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        heads = linear(hidden_states, torch.cat(parts)).unflatten(-1, (-1, self.head_dim))
        queries, keys, values = heads.split([len(part) // self.head_dim for part in parts], dim=2)
        queries, keys = (rotate(part, *position_embeddings) for part in (queries, keys))
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, _ = attend(
            *(self, queries, keys, values, attention_mask),
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **arguments,
        )
        return self.o_proj(attended.flatten(-2)), None


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021) of [batch, length, heads, head size].

    Llama pairs component i with i + half. Compiled, it is one pass: the halves change places by their index,
    not in a copy. `cosine` and `sine` are [batch or 1, length, head size].
    """
    halves, cosine, sine = (x.unflatten(-1, (2, -1)) for x in (heads, cosine[:, :, None], sine[:, :, None]))
    signs = torch.arange(-1, 2, 2, device=heads.device)[:, None]
    return (halves * cosine + halves.flip(-2) * (signs * sine)).flatten(-2).to(heads.dtype)
