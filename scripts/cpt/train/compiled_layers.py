"""Layers that torch.compile fuses; in Llama's, products of the same factor become one first.

Queries, keys and values come from one product, gate and up from another: the normalised input is read twice
instead of five times a layer, and its gradient is one product instead of a sum of several. The weights stay
where they are, so that state dicts don't change; they are put side by side anew for each micro-batch.
"""

import importlib.util
import os
import shutil
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    eager_attention_forward,
)


def compiles(settings: dict[str, Any], device: torch.device) -> bool:
    """Whether a plan's settings ask for compiled layers on this device."""
    return settings["compile"] is True or (settings["compile"] == "auto" and can_compile(device))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile pays: on a GPU for which there is Triton, and the C compiler that it needs."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return (
        device.type == "cuda"
        and importlib.util.find_spec("triton") is not None
        and any(shutil.which(compiler) for compiler in compilers)
    )


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile fuse what lies between a layer's matrix products.

    Layers that are alike share one compilation for each shape of a micro-batch, for the sizes are fixed.
    Parameters keep their names.
    """
    for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
        layer.compile(dynamic=False)


def join_products(model: nn.Module) -> None:
    """Give a Llama's layers the forward pass of this module; others, and those with biases, stay."""
    for module in model.modules():
        if type(module) is LlamaAttention and module.q_proj.bias is None:
            module.__class__ = JoinedAttention
        elif type(module) is LlamaMLP and module.gate_proj.bias is None:
            module.__class__ = JoinedFeedForward


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


class JoinedFeedForward(LlamaMLP):
    """LlamaMLP.forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight])).chunk(2, dim=-1)
        return self.down_proj(self.act_fn(gate) * up)
