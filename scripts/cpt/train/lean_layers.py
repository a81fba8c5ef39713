"""Decoder layers of Llama's shape that keep little for the backward pass and pass over memory fewer times.

The layers of transformers leave it to autograd what is kept: normalised, rotated, repeated and multiplied
copies, 11,275 floats a token and layer in the 125M shape (width 576, feed-forward 1,536, 9 heads, 3 of
them for keys). Here each half of a layer is one function with a backward pass of its own, which keeps its
input, the projections' outputs and the attention's output (5,762 floats), and computes the copies again, in
memory that all layers share. Queries, keys and values come from one product; attention is
cpt.train.block_attention.

For float32 on a CPU. The weights stay where they are, so that state dicts don't change.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from cpt.train.block_attention import Block, attend, attend_backward, causal_blocks, masked_blocks
from cpt.train.workspace import Workspace


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
        blocks = BlocksOfMasks(config.num_attention_heads // config.num_key_value_heads)
        workspace = Workspace()
        for layer in layers:
            layer.__class__ = LeanLayer
            layer.blocks, layer.workspace = blocks, workspace
    return fits


class BlocksOfMasks:
    """The attention blocks of a mask as transformers makes it, computed once for all layers.

    Args:
        group: queries that share a key head.
    """

    def __init__(self, group: int) -> None:
        self.group = group
        self.of: tuple[torch.Tensor | None, int] | None = None
        self.blocks: list[list[Block]] = []

    def __call__(self, mask: torch.Tensor | None, length: int) -> list[list[Block]]:
        """`mask` [batch or 1, 1, length, length] is true where a query sees a key; None is a causal one."""
        if self.of is None or self.of[0] is not mask or self.of[1] != length:
            self.of = (mask, length)
            self.blocks = (
                [causal_blocks(length, self.group)]
                if mask is None
                else [masked_blocks(seen[0], self.group) for seen in mask]
            )
        return self.blocks


class LeanLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache. As its subclass, it is recomputed where asked for."""

    blocks: BlocksOfMasks
    workspace: Workspace

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **_: Any,
    ) -> torch.Tensor:
        attention, mlp = self.self_attn, self.mlp
        hidden_states = AttentionHalf.apply(
            hidden_states,
            self.input_layernorm.weight,
            attention.q_proj.weight,
            attention.k_proj.weight,
            attention.v_proj.weight,
            attention.o_proj.weight,
            *position_embeddings,
            self.blocks(attention_mask, hidden_states.shape[1]),
            self.workspace,
            self.input_layernorm.variance_epsilon,
            attention.head_dim,
            attention.scaling,
        )
        return FeedForwardHalf.apply(
            hidden_states,
            self.post_attention_layernorm.weight,
            mlp.gate_proj.weight,
            mlp.up_proj.weight,
            mlp.down_proj.weight,
            self.workspace,
            self.post_attention_layernorm.variance_epsilon,
        )


class AttentionHalf(torch.autograd.Function):
    """x + attention(normalised x) W_o, with rotary embeddings and grouped queries.

    x is [batch, length, width].
    """

    @staticmethod
    def forward(
        ctx, x, norm, query, key, value, output, cosine, sine, blocks, workspace, epsilon, size, scale
    ):
        rows = x.flatten(0, 1)
        normalised, inverse = _normalise(rows, norm, epsilon, workspace)
        weights = _stacked(query, key, value, workspace)
        projected = workspace.take("projected", len(rows), len(weights))
        torch.mm(normalised, weights.T, out=projected)
        # By head, as attention takes them; the scale of its scores goes with the queries.
        of_queries, of_keys, of_values = _by_head(projected, x.shape, query, key, size)
        batch, length, heads, group, _ = of_queries.shape
        queries = x.new_empty(batch, heads, length, group, size)
        keys = x.new_empty(batch, heads, length, size)
        values = x.new_empty(batch, heads, length, size)
        _rotate(of_queries, cosine * scale, sine * scale, out=queries.permute(0, 2, 1, 3, 4))
        _rotate(of_keys, cosine, sine, out=keys.transpose(1, 2).unsqueeze(3))
        values.transpose(1, 2).unsqueeze(3).copy_(of_values)
        queries = queries.flatten(2, 3)
        attended = attend(queries, keys, values, blocks, workspace)
        merged = x.new_empty(len(rows), len(query))
        merged.view(batch, length, heads, group, size).copy_(
            attended.view(batch, heads, length, group, size).permute(0, 2, 1, 3, 4)
        )
        ctx.save_for_backward(
            x, inverse, queries, keys, values, merged, norm, query, key, value, output, cosine, sine
        )
        ctx.blocks, ctx.workspace, ctx.scale = blocks, workspace, scale
        return torch.addmm(rows, merged, output.T).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, inverse, queries, keys, values, merged, norm, query, key, value, output, cosine, sine = (
            ctx.saved_tensors
        )
        workspace, scale = ctx.workspace, ctx.scale
        rows, of_rows = x.flatten(0, 1), gradient.flatten(0, 1)
        batch, heads, length, size = keys.shape
        group = queries.shape[2] // length
        of_output = of_rows.T @ merged
        of_merged = workspace.take("projected", *merged.shape)
        torch.mm(of_rows, output, out=of_merged)
        of_attended = workspace.take("attended", batch, heads, length, group, size)
        of_attended.copy_(of_merged.view(batch, length, heads, group, size).permute(0, 2, 1, 3, 4))
        weights = _stacked(query, key, value, workspace)
        of_projected = workspace.take("projected", len(rows), len(weights))
        to_queries, to_keys, to_values = _by_head(of_projected, x.shape, query, key, size)
        of_queries, of_keys = attend_backward(
            *(of_attended.flatten(2, 3), queries, keys, values, ctx.blocks, workspace),
            of_values=to_values.squeeze(3).transpose(1, 2),
        )
        of_queries = of_queries.view(batch, heads, length, group, size).permute(0, 2, 1, 3, 4)
        _rotate(of_queries, cosine * scale, -sine * scale, out=to_queries)
        _rotate(of_keys.transpose(1, 2).unsqueeze(3), cosine, -sine, out=to_keys)
        normalised, scaled = _normalised_again(rows, inverse, norm, workspace)
        of_weights = of_projected.T @ scaled
        of_x, of_norm = _normalise_backward(of_projected @ weights, normalised, inverse, norm, workspace)
        sizes = [len(query), len(key), len(value)]
        return (of_x.add_(of_rows).view_as(x), of_norm, *of_weights.split(sizes), of_output, *[None] * 7)


class FeedForwardHalf(torch.autograd.Function):
    """x + (silu(normalised x W_gate) * normalised x W_up) W_down; x is [..., width]."""

    @staticmethod
    def forward(ctx, x, norm, gate, up, down, workspace, epsilon):
        rows = x.flatten(0, -2)
        normalised, inverse = _normalise(rows, norm, epsilon, workspace)
        gated, raised = normalised @ gate.T, normalised @ up.T
        ctx.save_for_backward(x, inverse, gated, raised, norm, gate, up, down)
        ctx.workspace = workspace
        product = workspace.take("product", *gated.shape)
        torch.ops.aten.silu.out(gated, out=product).mul_(raised)
        return torch.addmm(rows, product, down.T).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, inverse, gated, raised, norm, gate, up, down = ctx.saved_tensors
        workspace = ctx.workspace
        rows, of_rows = x.flatten(0, -2), gradient.flatten(0, -2)
        of_product = workspace.take("projected", *gated.shape)
        torch.mm(of_rows, down, out=of_product)
        activated = workspace.take("product", *gated.shape)
        torch.ops.aten.silu.out(gated, out=activated)
        of_gated = workspace.take("of gated", *gated.shape)
        of_down = of_rows.T @ torch.mul(activated, raised, out=of_gated)
        of_raised = activated.mul_(of_product)
        torch.ops.aten.silu_backward.grad_input(of_product.mul_(raised), gated, grad_input=of_gated)
        normalised, scaled = _normalised_again(rows, inverse, norm, workspace)
        of_gate, of_up = of_gated.T @ scaled, of_raised.T @ scaled
        of_normalised = (of_gated @ gate).addmm_(of_raised, up)
        of_x, of_norm = _normalise_backward(of_normalised, normalised, inverse, norm, workspace)
        return of_x.add_(of_rows).view_as(x), of_norm, of_gate, of_up, of_down, None, None


def _stacked(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, workspace: Workspace
) -> torch.Tensor:
    """The three projections' weights as one, for one product; in the workspace."""
    width = query.shape[1]
    together = workspace.take("weights", len(query) + len(key) + len(value), width)
    return torch.cat([query, key, value], out=together)


def _by_head(
    projected: torch.Tensor, shape: torch.Size, query: torch.Tensor, key: torch.Tensor, size: int
) -> list[torch.Tensor]:
    """Queries, keys and values as views [batch, length, key heads, group, head size] of one tensor."""
    heads = len(key) // size
    parts = projected.view(*shape[:2], -1).split([len(query), len(key), len(key)], dim=-1)
    return [part.unflatten(-1, (heads, -1, size)) for part in parts]


def _normalise(
    x: torch.Tensor, norm: torch.Tensor, epsilon: float, workspace: Workspace
) -> tuple[torch.Tensor, torch.Tensor]:
    """Root mean square normalisation (Zhang and Sennrich 2019) of rows, in the workspace, and 1 / root mean
    square [rows, 1]."""
    normalised = workspace.take("normalised", *x.shape)
    inverse = torch.mul(x, x, out=normalised).mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    return torch.mul(x, inverse, out=normalised).mul_(norm), inverse


def _normalised_again(
    x: torch.Tensor, inverse: torch.Tensor, norm: torch.Tensor, workspace: Workspace
) -> tuple[torch.Tensor, torch.Tensor]:
    """The normalised rows without and with the weight; both in the workspace."""
    normalised = torch.mul(x, inverse, out=workspace.take("normalised", *x.shape))
    return normalised, torch.mul(normalised, norm, out=workspace.take("scaled", *x.shape))


def _normalise_backward(
    gradient: torch.Tensor,
    normalised: torch.Tensor,
    inverse: torch.Tensor,
    norm: torch.Tensor,
    workspace: Workspace,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the input and of the weight; `normalised` is without the weight. Changes both tensors.

    With n = x r and r = 1 / root mean square: dx = r (g w - n mean(g w n)).
    """
    product = torch.mul(gradient, normalised, out=workspace.take("scaled", *gradient.shape))
    of_norm = product.sum(0)
    mean = (product @ norm).div_(normalised.shape[-1]).unsqueeze(-1)
    return gradient.mul_(norm).sub_(normalised.mul_(mean)).mul_(inverse), of_norm


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, out: torch.Tensor) -> None:
    """Rotary position embedding (Su et al. 2021) of [batch, length, key heads, group, head size] into `out`.

    Llama pairs component i with i + half; `cosine` and `sine` [batch, length, head size] repeat their
    first half. Turning by the opposite angle, with -sine, is the backward pass.
    """
    half = x.shape[-1] // 2
    cosine, sine = cosine[:, :, None, None, :half], sine[:, :, None, None, :half]
    first, second = x[..., :half], x[..., half:]
    torch.mul(first, cosine, out=out[..., :half]).addcmul_(second, sine, value=-1.0)
    torch.mul(second, cosine, out=out[..., half:]).addcmul_(first, sine)
