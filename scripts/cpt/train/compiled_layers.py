"""Layers that torch.compile fuses; Llama's get a forward pass that moves and keeps less memory.

Queries, keys and values come from one product: the input is read once instead of three times, and its
gradient is one product instead of a sum. The weights stay where they are, so state dicts don't change; each
forward pass concatenates them. Norms become part of the products after them.
"""

import importlib.util
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu
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
    """Whether torch.compile pays: on a GPU, with Triton and the C compiler that Triton needs."""
    if device.type != "cuda":
        return False
    triton = importlib.util.find_spec("triton") is not None
    error = compilers.c_error() if triton else "Triton isn't installed, which PyTorch's builds for GPUs bring"
    if error:
        logging.warning("compile: auto compiles nothing, so steps take longer: %s", error)
    return not error


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile fuse the operations between a layer's matrix products.

    Equal layers share one compilation. Each micro-batch shape has its own, since sizes are static.
    Parameters keep their names.
    """
    for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
        layer.compile(dynamic=False)


def keep_residual_in_bfloat16(model: nn.Module) -> None:
    """Under autocast, make layers pass on bfloat16; float32 embeddings would make all their outputs float32.

    Layers that are cast to bfloat16 (FSDP, DeepSpeed) pass on the same. Norms compute in float32.
    """
    model.get_input_embeddings().register_forward_hook(lambda module, given, output: output.bfloat16())


def join_products(model: nn.Module) -> None:
    """Give a Llama's layers this module's forward pass; layers with biases or another gate keep theirs."""
    layers = [m for m in model.modules() if type(m) is LlamaDecoderLayer and _is_joinable(m)]
    for layer in layers:
        layer.__class__, layer.self_attn.__class__ = JoinedLayer, JoinedAttention
    if not layers:
        return
    for module in model.modules():
        if type(module) is LlamaRotaryEmbedding:
            # The module gives sines and cosines the precision of its first argument.
            module.register_forward_pre_hook(
                lambda module, inputs: (inputs[0].new_empty(0, dtype=torch.float32),)
            )


def _is_joinable(layer: LlamaDecoderLayer) -> bool:
    biases = layer.self_attn.q_proj.bias, layer.mlp.gate_proj.bias
    return all(bias is None for bias in biases) and layer.mlp.config.hidden_act == "silu"


class JoinedLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache; its norms are part of the products after them.

    Except for one factor per token, `scale`, a norm is linear. So its weights are multiplied into the
    product's, and the factor is applied after the product: normalised states are neither written nor kept.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: None = None,
        use_cache: bool = False,
        **arguments: Any,
    ) -> torch.Tensor:
        attended = self.self_attn(hidden_states, self.input_layernorm, **arguments)
        hidden_states = hidden_states + attended  # [batch, length, width]
        dtype, norm = hidden_states.dtype, self.post_attention_layernorm
        output = GatedFeedForward.apply(
            hidden_states.flatten(0, 1),
            (self.mlp.gate_proj.weight * norm.weight).to(dtype),
            (self.mlp.up_proj.weight * norm.weight).to(dtype),
            self.mlp.down_proj.weight.to(dtype),
            norm.variance_epsilon,
        )
        # FSDP warns if a layer returns a view; matmul avoids one in the same way.
        return torch.ops.aten._unsafe_view(output, hidden_states.shape)


def rms_scale(hidden: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The factor by which RMSNorm multiplies each row of `hidden` [n, width]: float32 [n, 1]."""
    return torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + epsilon)


def norm_gradient(scaled_gradient: torch.Tensor, hidden: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Gradient of scale x hidden by `hidden`, float32 [n, width] (Zhang and Sennrich 2019, equation 4).

    `scaled_gradient` is the gradient by that product, already multiplied by `scale`. Everything is computed
    at the matrix product's input, which is narrower than its output.
    """
    return scaled_gradient - hidden * (scaled_gradient * hidden).mean(-1, keepdim=True) * scale.square()


class NormedProducts(torch.autograd.Function):
    """RMS-normalised `hidden` times weights^T, which include the norm's weights; to be compiled.

    Returns the parts of the product separately, so that each kernel after it reads only one.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weights: torch.Tensor, sizes: list[int], epsilon: float
    ) -> tuple[torch.Tensor, ...]:
        """hidden [n, width] and weights [sum of sizes, width] share a dtype; returns [n, size] per size."""
        scale = rms_scale(hidden, epsilon)
        ctx.save_for_backward(hidden, weights, scale)
        return tuple((part * scale).to(hidden.dtype) for part in (hidden @ weights.T).split(sizes, -1))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weights, scale = ctx.saved_tensors
        gradient = torch.cat([(part * scale).to(hidden.dtype) for part in gradients], -1)
        hidden_gradient = norm_gradient((gradient @ weights).float(), hidden, scale)
        return hidden_gradient.to(hidden.dtype), gradient.T @ hidden, None, None


class GatedFeedForward(torch.autograd.Function):
    """hidden + down(silu(gate) x up) of RMS-normalised hidden states (Shazeer 2020), to be compiled.

    The weights of gate and up already include the norm's. The forward pass computes both in one product. In
    the backward pass each has its own gradient tensor, and one kernel writes both; for two halves of one
    tensor, PyTorch makes two kernels.
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
        """hidden [n, width], weights of gate and up [inner, width], of down [width, inner]: all one dtype."""
        scale = rms_scale(hidden, epsilon)
        weights = torch.cat((gate_weights, up_weights))
        gate_up = hidden @ weights.T  # [n, 2 inner]
        ctx.save_for_backward(hidden, weights, down_weights, scale, gate_up)
        gate, up = gate_up.chunk(2, -1)
        product = (silu(gate * scale) * (up * scale)).to(hidden.dtype)
        return hidden + product @ down_weights.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weights, down_weights, scale, gate_up = ctx.saved_tensors
        gate, up = (gate_up * scale).chunk(2, -1)
        product_gradient = gradient @ down_weights  # [n, inner]
        share = torch.sigmoid(gate)
        product = (gate * share * up).to(hidden.dtype)
        gate_gradient = (scale * product_gradient * up * share * (1 + gate * (1 - share))).to(hidden.dtype)
        up_gradient = (scale * product_gradient * gate * share).to(hidden.dtype)
        gate_weights, up_weights = weights.chunk(2)
        scaled_gradient = (gate_gradient @ gate_weights).float() + up_gradient @ up_weights  # [n, width]
        hidden_gradient = (gradient + norm_gradient(scaled_gradient, hidden, scale)).to(hidden.dtype)
        return hidden_gradient, gate_gradient.T @ hidden, up_gradient.T @ hidden, gradient.T @ product, None


class JoinedAttention(LlamaAttention):
    """LlamaAttention.forward without a cache, for states that `norm` hasn't normalised yet."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        norm: nn.Module,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        **arguments: Any,
    ) -> torch.Tensor:
        projections = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        heads = NormedProducts.apply(
            hidden_states.flatten(0, 1),
            (torch.cat(projections) * norm.weight).to(hidden_states.dtype),
            [len(weights) for weights in projections],
            norm.variance_epsilon,
        )
        shape = (*hidden_states.shape[:2], -1, self.head_dim)  # [batch, length, heads, head size]
        queries, keys, values = (part.view(shape) for part in heads)
        queries, keys = (rotate(part, *position_embeddings) for part in (queries, keys))
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, _ = attend(
            self,
            queries,
            keys,
            values,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **arguments,
        )
        return self.o_proj(attended.flatten(-2))


def rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Apply rotary position embedding (Su et al. 2021) to [batch, length, heads, head size].

    Llama pairs component i with i + half. Compiled, this is one pass: the halves swap by index, not
    in a copy. `cosine` and `sine` are [batch or 1, length, head size].
    """
    halves, cosine, sine = (x.unflatten(-1, (2, -1)) for x in (heads, cosine[:, :, None], sine[:, :, None]))
    signs = torch.arange(-1, 2, 2, device=heads.device)[:, None]
    return (halves * cosine + halves.flip(-2) * (signs * sine)).flatten(-2).to(heads.dtype)
