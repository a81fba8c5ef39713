"""Llama's layers in bfloat16 on a CPU: each is one autograd function, which keeps what `selective` keeps.

Selective checkpointing runs Python for each operation (docs/performance-bfloat16.md). Here queries,
keys and values come from one product, gate and up from another, and the backward pass computes norms,
rotation and SwiGLU again with a few operations. Weights, norms and states between layers are float32, the
rest is bfloat16, as in autocast.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from cpt.train.blocks import attend, attend_backward

aten = torch.ops.aten


class Sizes(NamedTuple):
    """Sizes of a layer's attention, and the epsilon that its norms add to the mean square."""

    heads: int
    key_heads: int
    head: int
    scaling: float
    epsilon: float


def use_cpu_layers(model: nn.Module) -> bool:
    """Give a Llama's layers this module's forward pass; returns False, changing none, if one can't use it."""
    layers = getattr(model.base_model, "layers", [])
    fit = [type(layer) is LlamaDecoderLayer and _fits(layer) for layer in layers]
    if not fit or not all(fit):
        return False
    for layer in layers:
        layer.__class__ = CpuLayer
    return True


def _fits(layer: LlamaDecoderLayer) -> bool:
    config = layer.mlp.config
    plain = not (config.attention_bias or config.mlp_bias or config.attention_dropout)
    return plain and config.hidden_act == "silu" and config._attn_implementation == "sdpa"


class CpuLayer(LlamaDecoderLayer):
    """LlamaDecoderLayer.forward without a cache, in bfloat16."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """hidden_states float32 [batch, length, width]; the mask is True where a query sees a key."""
        attention, mlp, config = self.self_attn, self.mlp, self.mlp.config
        sizes = Sizes(
            config.num_attention_heads,
            config.num_key_value_heads,
            attention.head_dim,
            attention.scaling,
            self.input_layernorm.variance_epsilon,
        )
        with torch.autocast("cpu", enabled=False):
            return LayerFunction.apply(
                hidden_states,
                *(module.weight for module in (self.input_layernorm, attention.q_proj, attention.k_proj)),
                *(module.weight for module in (attention.v_proj, attention.o_proj)),
                *(module.weight for module in (self.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)),
                mlp.down_proj.weight,
                position_embeddings[0],
                position_embeddings[1],
                attention_mask,
                sizes,
            )


class LayerFunction(torch.autograd.Function):
    """A layer's output, float32 [batch, length, width], and gradients with respect to input and weights."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        norm1: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        out: torch.Tensor,
        norm2: torch.Tensor,
        gate: torch.Tensor,
        up: torch.Tensor,
        down: torch.Tensor,
        cosine: torch.Tensor,
        sine: torch.Tensor,
        mask: torch.Tensor | None,
        sizes: Sizes,
    ) -> torch.Tensor:
        """cosine, sine: [batch or 1, length, head]; mask: bool [batch or 1, 1, length, length] or None."""
        residual = hidden.flatten(0, 1)  # [tokens, width]
        weights = _bfloat16(_paired(query, sizes), _paired(key, sizes), value)
        products = _normed(residual, norm1, sizes)[0] @ weights.T
        states = _rotated_heads(products, cosine, sine, hidden.shape[:2], sizes)
        attended = _tokens(attend(*states, mask), sizes)
        added = attended @ out.bfloat16().T
        residual = residual + added
        gate_up = _normed(residual, norm2, sizes)[0] @ _bfloat16(gate, up).T
        gates, ups = gate_up.chunk(2, dim=-1)
        residual += silu(gates).mul_(ups) @ down.bfloat16().T
        ctx.sizes = sizes
        ctx.save_for_backward(
            hidden,
            norm1,
            query,
            key,
            value,
            out,
            norm2,
            gate,
            up,
            down,
            cosine,
            sine,
            mask,
            *states,
            attended,
            added,
            gate_up,
        )
        return residual.view_as(hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = ctx.saved_tensors
        hidden, norm1, query, key, value, out, norm2, gate, up, down, cosine, sine, mask = saved[:13]
        *states, attended, added, gate_up = saved[13:]
        sizes, residual, gradient = ctx.sizes, hidden.flatten(0, 1), gradient.flatten(0, 1)

        # Feed-forward part.
        short = gradient.bfloat16()
        gates, ups = gate_up.chunk(2, dim=-1)
        activated = silu(gates)
        down_gradient = short.T @ (activated * ups)
        product_gradient = short @ down.bfloat16()
        gate_up_gradient = torch.empty_like(gate_up)
        inner = len(gate)
        torch.mul(product_gradient, activated, out=gate_up_gradient[:, inner:])
        aten.silu_backward.grad_input(
            product_gradient.mul_(ups), gates, grad_input=gate_up_gradient[:, :inner]
        )
        middle = residual + added
        normed, factors = _normed(middle, norm2, sizes)
        gate_gradient, up_gradient = (gate_up_gradient.T @ normed).split(inner)
        change, norm2_gradient = _norm_backward(
            gate_up_gradient @ _bfloat16(gate, up), middle, factors, norm2
        )
        gradient = change.add_(gradient)

        # Attention.
        short = gradient.bfloat16()
        out_gradient = short.T @ attended
        attended_gradient = _heads(short @ out.bfloat16(), states[0].shape)
        state_gradients = attend_backward(*states, mask, attended_gradient)
        projection_gradient = _products(state_gradients, cosine, sine, hidden.shape[:2], sizes)
        normed, factors = _normed(residual, norm1, sizes)
        query_gradient, key_gradient, value_gradient = (projection_gradient.T @ normed).split(
            [len(query), len(key), len(value)]
        )
        projection_weight_gradients = (
            _unpaired(query_gradient, sizes),
            _unpaired(key_gradient, sizes),
            value_gradient,
        )
        weights = _bfloat16(_paired(query, sizes), _paired(key, sizes), value)
        change, norm1_gradient = _norm_backward(projection_gradient @ weights, residual, factors, norm1)
        gradient = change.add_(gradient).view_as(hidden)
        return (
            gradient,
            norm1_gradient,
            *projection_weight_gradients,
            out_gradient,
            norm2_gradient,
            gate_gradient,
            up_gradient,
            down_gradient,
            *[None] * 4,
        )


def _bfloat16(*weights: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows of matrices [..., width], in bfloat16."""
    rows = [weight.shape[:-1].numel() for weight in weights]
    joined = weights[0].new_empty(sum(rows), weights[0].shape[-1], dtype=torch.bfloat16)
    for part, weight in zip(joined.split(rows), weights, strict=True):
        part.view(weight.shape).copy_(weight)
    return joined


def _paired(weight: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """Rows of queries or keys, reordered so that rotation's pairs are adjacent: [heads, half, 2, width].

    Llama pairs component i of a head with i + half. Scores don't depend on the components' order.
    """
    return weight.view(-1, 2, sizes.head // 2, weight.shape[-1]).transpose(1, 2)


def _unpaired(gradient: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """The reverse of `_paired`, for gradients: [heads * head, width]."""
    return gradient.view(-1, sizes.head // 2, 2, gradient.shape[-1]).transpose(1, 2).flatten(0, 2)


def _normed(states: torch.Tensor, weight: torch.Tensor, sizes: Sizes) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm (Zhang and Sennrich 2019) of float32 [tokens, width] in bfloat16, and its factor per token."""
    squares = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_()
    factors = squares.div_(states.shape[-1]).add_(sizes.epsilon).rsqrt_()
    return (states * factors).mul_(weight).bfloat16(), factors


def _norm_backward(
    gradient: torch.Tensor, states: torch.Tensor, factors: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `_normed` by its states and weights: float32, from a bfloat16 gradient [tokens, width]."""
    gradient, unit = gradient.float(), states * factors
    along = gradient * unit
    weight_gradient = along.sum(0)
    means = (along @ weight).div_(len(weight))[:, None]
    return gradient.mul_(weight).addcmul_(unit, means, value=-1).mul_(factors), weight_gradient


def _rotated_heads(
    products: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, shape: torch.Size, sizes: Sizes
) -> list[torch.Tensor]:
    """Queries [batch * key heads, group, length, head], keys and values [batch * key heads, length, head].

    Applies rotary position embedding (Su et al. 2021) and scales queries. `products`: bfloat16 [tokens, width
    of all heads].
    """
    heads, keys = sizes.heads, sizes.key_heads
    parts = products.view(*shape, -1, sizes.head).transpose(1, 2)  # [batch, heads, length, head]
    rotated = _rotate(parts[:, : heads + keys].float(), cosine, sine, sizes)
    three = (rotated[:, :heads], rotated[:, heads:], parts[:, heads + keys :])
    states = [products.new_empty(part.shape).copy_(part) for part in three]
    return [states[0].view(-1, heads // keys, *states[0].shape[2:]), *(s.flatten(0, 1) for s in states[1:])]


def _products(
    states: list[torch.Tensor], cosine: torch.Tensor, sine: torch.Tensor, shape: torch.Size, sizes: Sizes
) -> torch.Tensor:
    """The reverse of `_rotated_heads`, for gradients."""
    queries, keys, values = (part.view(shape[0], -1, shape[1], sizes.head) for part in states)
    rotated = keys.new_empty(shape[0], sizes.heads + sizes.key_heads, *keys.shape[2:])
    rotated[:, : sizes.heads], rotated[:, sizes.heads :] = queries, keys
    products = queries.new_empty(*shape, rotated.shape[1] + sizes.key_heads, sizes.head)
    parts = products.transpose(1, 2)
    parts[:, : rotated.shape[1]] = _rotate(rotated, cosine, -sine, sizes)
    parts[:, rotated.shape[1] :] = values
    return products.view(shape.numel(), -1)


def _rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """Rotate float32 [batch, heads, length, head] in place; two adjacent components are a complex number."""
    half = sizes.head // 2
    turn = torch.complex(cosine[:, None, :, :half].float(), sine[:, None, :, :half].float())
    numbers = torch.view_as_complex(heads.unflatten(-1, (half, 2)))
    numbers[:, : sizes.heads] *= turn * sizes.scaling
    numbers[:, sizes.heads :] *= turn
    return heads


def _tokens(heads: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """Reshape [batch * key heads, group, length, head] to [tokens, heads * head]."""
    _, group, length, head = heads.shape
    apart = heads.view(-1, sizes.key_heads, group, length, head)
    return apart.permute(0, 3, 1, 2, 4).reshape(-1, sizes.heads * head)


def _heads(tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The reverse of `_tokens`."""
    both, group, length, head = shape
    keys = tokens.shape[1] // (group * head)
    apart = tokens.view(both // keys, length, keys, group, head)
    return apart.permute(0, 2, 3, 1, 4).reshape(shape)
