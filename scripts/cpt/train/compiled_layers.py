"""Layers that torch.compile fuses; Llama's get a forward pass that moves less memory.

Queries, keys and values come from one product: the input is read once instead of three times, and its
gradient is one product instead of a sum. The weights stay where they are, so that state dicts don't change;
they are put side by side in each forward pass.
"""

import importlib.util
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, silu
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
        if type(module) is LlamaDecoderLayer and _is_gated_by_silu(module):
            module.__class__ = JoinedLayer
        elif type(module) is LlamaAttention and module.q_proj.bias is None:
            module.__class__ = JoinedAttention
        elif type(module) is LlamaRotaryEmbedding and not module.config.attention_bias:
            # Sines and cosines get the precision of its first argument.
            module.register_forward_pre_hook(
                lambda module, given: (given[0].new_empty(0, dtype=torch.float32),)
            )


def _is_gated_by_silu(layer: LlamaDecoderLayer) -> bool:
    return layer.mlp.gate_proj.bias is None and layer.mlp.config.hidden_act == "silu"


class JoinedLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache, with a feed-forward part of ours (GatedFeedForward)."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: None = None,
        use_cache: bool = False,
        **arguments: Any,
    ) -> torch.Tensor:
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **arguments)
        hidden_states = hidden_states + attended  # [batch, length, width]
        dtype, norm = hidden_states.dtype, self.post_attention_layernorm
        return GatedFeedForward.apply(
            hidden_states.flatten(0, 1),
            (self.mlp.gate_proj.weight * norm.weight).to(dtype),
            (self.mlp.up_proj.weight * norm.weight).to(dtype),
            self.mlp.down_proj.weight.to(dtype),
            norm.variance_epsilon,
        ).view_as(hidden_states)


class GatedFeedForward(torch.autograd.Function):
    """hidden + down(silu(gate) x up) of RMS-normalised hidden states (Shazeer 2020), to be compiled.

    The norm is linear but for a factor per token, `scale`, so its weights are part of `gate` and `up`, and
    the factor follows the products: normalised states are neither written nor kept. The factor's gradient
    follows from that of `hidden` through the products (Zhang and Sennrich 2019, equation 4), which is
    narrower than the products' results. `gate` and `up` stay apart, so that one kernel reads what both
    gradients need.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        gate_weights: torch.Tensor,
        up_weights: torch.Tensor,
        down_weights: torch.Tensor,
        epsilon: float,
    ) -> torch.Tensor:
        """hidden [n, width], weights of gate and up [inner, width], of down [width, inner]: one dtype."""
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + epsilon)  # [n, 1]
        gate, up = hidden @ gate_weights.T, hidden @ up_weights.T  # [n, inner]
        ctx.save_for_backward(hidden, gate_weights, up_weights, down_weights, scale, gate, up)
        product = (silu(gate * scale) * (up * scale)).to(hidden.dtype)
        return hidden + product @ down_weights.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, gate_weights, up_weights, down_weights, scale, gate, up = ctx.saved_tensors
        gate, up, of_product = gate * scale, up * scale, gradient @ down_weights  # [n, inner]
        share = torch.sigmoid(gate)
        product = (gate * share * up).to(hidden.dtype)
        of_gate = (scale * of_product * up * share * (1 + gate * (1 - share))).to(hidden.dtype)
        of_up = (scale * of_product * gate * share).to(hidden.dtype)
        of_normed = (of_gate @ gate_weights).float() + of_up @ up_weights  # [n, width]
        along = (of_normed * hidden).mean(-1, keepdim=True) * scale.square()
        of_hidden = (gradient + of_normed - hidden * along).to(hidden.dtype)
        return of_hidden, of_gate.T @ hidden, of_up.T @ hidden, gradient.T @ product, None


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
