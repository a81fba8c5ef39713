"""Decoder layers of Llama's shape that keep little for the backward pass and pass over memory fewer times.

The layers of transformers leave it to autograd what is kept: normalised, rotated, repeated and multiplied
copies, 11,275 floats a token and layer in the 125M shape (width 576, feed-forward 1,536, 9 heads, 3 of
them for keys). Here each half of a layer is one function with a backward pass of its own, which keeps its
input, the projections' outputs and the attention's output (5,899 floats), and computes the copies again.
The matrix products are the same, but queries, keys and values come from one.

For float32 on a CPU. The weights stay where they are, so that state dicts don't change.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, silu
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

flash_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def make_lean(model: nn.Module) -> bool:
    """Give the decoder layers of a Llama (float32, on the CPU) the forward pass of this module.

    Returns whether it was done: not for other layers, layers with biases, dropout or another activation.
    """
    config = model.config
    layers = getattr(model.base_model, "layers", [])
    fits = (
        len(layers) > 0
        and all(type(layer) is LlamaDecoderLayer for layer in layers)
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias or config.attention_dropout)
        and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
    )
    if fits:
        masks = AdditiveMasks()
        for layer in layers:
            layer.forward = partial(_forward, masks, layer)
    return fits


class AdditiveMasks:
    """Turns attention masks from true and false to 0 and -infinity, once for all layers of a forward pass."""

    def __init__(self) -> None:
        self.mask: torch.Tensor | None = None
        self.additive: torch.Tensor | None = None

    def __call__(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        if mask is not self.mask:
            self.mask = mask
            self.additive = None
            if mask is not None:
                self.additive = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
        return self.additive


def _forward(
    masks: AdditiveMasks,
    layer: LlamaDecoderLayer,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    **_: Any,
) -> torch.Tensor:
    """LlamaDecoderLayer.forward without a cache."""
    attention, mlp = layer.self_attn, layer.mlp
    hidden_states = AttentionHalf.apply(
        hidden_states,
        layer.input_layernorm.weight,
        attention.q_proj.weight,
        attention.k_proj.weight,
        attention.v_proj.weight,
        attention.o_proj.weight,
        *position_embeddings,
        masks(attention_mask),
        layer.input_layernorm.variance_epsilon,
        attention.head_dim,
        attention.scaling,
    )
    return FeedForwardHalf.apply(
        hidden_states,
        layer.post_attention_layernorm.weight,
        mlp.gate_proj.weight,
        mlp.up_proj.weight,
        mlp.down_proj.weight,
        layer.post_attention_layernorm.variance_epsilon,
    )


class AttentionHalf(torch.autograd.Function):
    """x + attention(normalised x) W_o, with rotary embeddings and grouped queries."""

    @staticmethod
    def forward(ctx, x, norm, query, key, value, output, cosine, sine, mask, epsilon, head_size, scale):
        normalised, inverse = _normalise(x, norm, epsilon)
        projected = linear(normalised, torch.cat([query, key, value]))
        del normalised
        sizes = [len(query), len(key), len(value)]
        _rotate_(projected[..., : sizes[0] + sizes[1]], cosine, sine, head_size)
        q, k, v = _heads(projected, sizes, head_size)
        attended, log_sums = flash_attention(q, k, v, 0.0, mask is None, attn_mask=mask, scale=scale)
        merged = attended.transpose(1, 2).reshape(*x.shape[:-1], sizes[0])
        ctx.save_for_backward(
            x, inverse, projected, merged, log_sums, norm, query, key, value, output, cosine, sine, mask
        )
        ctx.head_size, ctx.scale = head_size, scale
        return linear(merged, output).add_(x)

    @staticmethod
    def backward(ctx, gradient):
        x, inverse, projected, merged, log_sums, norm, query, key, value, output, cosine, sine, mask = (
            ctx.saved_tensors
        )
        sizes = [len(query), len(key), len(value)]
        q, k, v = _heads(projected, sizes, ctx.head_size)
        of_merged = gradient @ output
        of_output = gradient.flatten(0, -2).T @ merged.flatten(0, -2)
        split = (*merged.shape[:-1], -1, ctx.head_size)
        of_heads = flash_attention_backward(
            of_merged.view(split).transpose(1, 2),
            *(q, k, v),
            merged.view(split).transpose(1, 2),
            log_sums,
            *(0.0, mask is None),
            attn_mask=mask,
            scale=ctx.scale,
        )
        del of_merged
        of_projected = torch.cat([part.transpose(1, 2).flatten(2) for part in of_heads], -1)
        del of_heads
        _rotate_(of_projected[..., : sizes[0] + sizes[1]], cosine, -sine, ctx.head_size)
        weights = torch.cat([query, key, value])
        normalised = x * inverse
        of_weights = of_projected.flatten(0, -2).T @ (normalised * norm).flatten(0, -2)
        of_x, of_norm = _normalise_backward(of_projected @ weights, normalised, inverse, norm)
        return (of_x.add_(gradient), of_norm, *of_weights.split(sizes), of_output, *[None] * 6)


class FeedForwardHalf(torch.autograd.Function):
    """x + (silu(normalised x W_gate) * normalised x W_up) W_down."""

    @staticmethod
    def forward(ctx, x, norm, gate, up, down, epsilon):
        normalised, inverse = _normalise(x, norm, epsilon)
        gated = linear(normalised, gate)
        raised = linear(normalised, up)
        del normalised
        ctx.save_for_backward(x, inverse, gated, raised, norm, gate, up, down)
        return linear(silu(gated).mul_(raised), down).add_(x)

    @staticmethod
    def backward(ctx, gradient):
        x, inverse, gated, raised, norm, gate, up, down = ctx.saved_tensors
        of_product = gradient @ down
        activated = silu(gated)
        of_down = gradient.flatten(0, -2).T @ (activated * raised).flatten(0, -2)
        of_raised = activated.mul_(of_product)
        of_gated = torch.ops.aten.silu_backward(of_product.mul_(raised), gated)
        del of_product
        normalised = x * inverse
        scaled = (normalised * norm).flatten(0, -2)
        of_gate, of_up = of_gated.flatten(0, -2).T @ scaled, of_raised.flatten(0, -2).T @ scaled
        del scaled
        of_normalised = (of_gated @ gate).add_(of_raised @ up)
        of_x, of_norm = _normalise_backward(of_normalised, normalised, inverse, norm)
        return of_x.add_(gradient), of_norm, of_gate, of_up, of_down, None


def _heads(projected: torch.Tensor, sizes: list[int], head_size: int) -> list[torch.Tensor]:
    """Queries, keys and values as [batch, heads, length, head size], views of one tensor."""
    return [part.unflatten(-1, (-1, head_size)).transpose(1, 2) for part in projected.split(sizes, dim=-1)]


def _normalise(x: torch.Tensor, norm: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean square normalisation (Zhang and Sennrich 2019), and 1 / root mean square [..., 1]."""
    inverse = x.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    return (x * inverse).mul_(norm), inverse


def _normalise_backward(
    gradient: torch.Tensor, normalised: torch.Tensor, inverse: torch.Tensor, norm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the input and of the weight; `normalised` is without the weight. Changes both tensors.

    With n = x r and r = 1 / root mean square: dx = r (g w - n mean(g w n)).
    """
    product = gradient * normalised
    of_norm = product.flatten(0, -2).sum(0)
    mean = (product @ norm).div_(normalised.shape[-1]).unsqueeze(-1)
    return gradient.mul_(norm).sub_(normalised.mul_(mean)).mul_(inverse), of_norm


def _rotate_(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, head_size: int) -> None:
    """Rotary position embedding (Su et al. 2021) in place, on [batch, length, heads * head size].

    Llama pairs component i with i + half; `cosine` and `sine` [batch, length, head size] repeat their
    first half. Turning by the opposite angle, with -sine, is the backward pass.
    """
    half = head_size // 2
    halves = x.unflatten(-1, (-1, 2, half))
    first, second = halves[..., 0, :], halves[..., 1, :]
    cosine, sine = cosine[..., None, :half], sine[..., None, :half]
    turned = first * cosine - second * sine
    second.mul_(cosine).addcmul_(first, sine)
    first.copy_(turned)
