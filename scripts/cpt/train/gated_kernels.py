"""Products of a Llama's feed-forward part for a GPU, each with the operations around it in one Triton kernel.

PyTorch's compiler calls cuBLAS for products, so what lies between two of them is written by one kernel and
read by the next. Here the product of gate and up writes SwiGLU (Shazeer 2020) too, the gradient's product
goes through SwiGLU before it is written, and the down product adds the residual stream.

This module needs Triton, which PyTorch's builds for GPUs bring.
"""

import torch
import triton
import triton.language as tl

# Rows, columns and inner size of a block; a power of two each, as Triton wants it.
BLOCK = {"ROWS": 128, "COLUMNS": 64, "INNER": 64}
LAUNCH = {"num_warps": 8, "num_stages": 3}


@triton.jit
def _block(columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Row and column indices of this program's block. The blocks of the same rows follow one another."""
    across = tl.cdiv(columns, COLUMNS)
    row = (tl.program_id(0) // across) * ROWS + tl.arange(0, ROWS)
    return row.to(tl.int64)[:, None], (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)[None, :]


@triton.jit
def _gated_product(
    hidden, weights, scale, gate_up, product, rows, columns, inner,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    row, column = _block(columns, ROWS, COLUMNS)
    step = tl.arange(0, INNER)
    gate = tl.zeros((ROWS, COLUMNS), tl.float32)
    up = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        at = start + step
        left = tl.load(hidden + row * inner + at[None, :], (row < rows) & (at[None, :] < inner), 0.0)
        inside = (column < columns) & (at[:, None] < inner)
        right = weights + column * inner + at[:, None]
        gate = tl.dot(left, tl.load(right, inside, 0.0), gate, input_precision="ieee")
        up = tl.dot(left, tl.load(right + columns * inner, inside, 0.0), up, input_precision="ieee")
    factor = tl.load(scale + row, row < rows, 0.0)
    gate, up = gate * factor, up * factor
    inside = (row < rows) & (column < columns)
    tl.store(gate_up + row * 2 * columns + column, gate, inside)
    tl.store(gate_up + row * 2 * columns + columns + column, up, inside)
    tl.store(product + row * columns + column, gate * tl.sigmoid(gate) * up, inside)


@triton.jit
def _gated_gradient(
    gradient, weights, gate_up, scale, output, rows, columns, inner,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    row, column = _block(columns, ROWS, COLUMNS)
    step = tl.arange(0, INNER)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        at = start + step
        left = tl.load(gradient + row * inner + at[None, :], (row < rows) & (at[None, :] < inner), 0.0)
        right = weights + at[:, None] * columns + column
        inside = (column < columns) & (at[:, None] < inner)
        total = tl.dot(left, tl.load(right, inside, 0.0), total, input_precision="ieee")
    inside = (row < rows) & (column < columns)
    place = row * 2 * columns + column
    gate = tl.load(gate_up + place, inside, 0.0).to(tl.float32)
    up = tl.load(gate_up + place + columns, inside, 0.0).to(tl.float32)
    total *= tl.load(scale + row, row < rows, 0.0)
    share = tl.sigmoid(gate)
    tl.store(output + place, total * up * share * (1 + gate * (1 - share)), inside)
    tl.store(output + place + columns, total * gate * share, inside)


@triton.jit
def _product_and_sum(
    product, weights, residual, output, rows, columns, inner,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    row, column = _block(columns, ROWS, COLUMNS)
    step = tl.arange(0, INNER)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        at = start + step
        left = tl.load(product + row * inner + at[None, :], (row < rows) & (at[None, :] < inner), 0.0)
        inside = (column < columns) & (at[:, None] < inner)
        right = tl.load(weights + column * inner + at[:, None], inside, 0.0)
        total = tl.dot(left, right, total, input_precision="ieee")
    inside = (row < rows) & (column < columns)
    place = row * columns + column
    tl.store(output + place, total + tl.load(residual + place, inside, 0.0).to(tl.float32), inside)


def _grid(rows: int, columns: int) -> tuple[int]:
    return (triton.cdiv(rows, BLOCK["ROWS"]) * triton.cdiv(columns, BLOCK["COLUMNS"]),)


@torch.library.custom_op("cpt::gated_product", mutates_args=())
def gated_product(
    hidden: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale x hidden weights^T [n, 2 inner], and of its halves silu(gate) x up [n, inner]).

    Args:
        hidden: [n, width], contiguous, like all arguments here.
        weights: [2 inner, width], gate above up.
        scale: float32 [n, 1].
    """
    rows, (two, inner) = len(hidden), weights.shape
    gate_up, product = hidden.new_empty(rows, two), hidden.new_empty(rows, two // 2)
    sizes = (rows, two // 2, inner)
    _gated_product[_grid(*sizes[:2])](hidden, weights, scale, gate_up, product, *sizes, **BLOCK, **LAUNCH)
    return gate_up, product


@gated_product.register_fake
def _(hidden: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows, two = len(hidden), len(weights)
    return hidden.new_empty(rows, two), hidden.new_empty(rows, two // 2)


@torch.library.custom_op("cpt::gated_gradient", mutates_args=())
def gated_gradient(
    gradient: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The gradient by hidden weights^T of gated_product, [n, 2 inner].

    Args:
        gradient: by the down product's result, [n, width].
        weights: of the down product, [width, inner].
        gate_up, scale: of gated_product.
    """
    rows, (inner, columns) = len(gradient), weights.shape
    output = torch.empty_like(gate_up)
    sizes = (rows, columns, inner)
    _gated_gradient[_grid(*sizes[:2])](gradient, weights, gate_up, scale, output, *sizes, **BLOCK, **LAUNCH)
    return output


@gated_gradient.register_fake
def _(
    gradient: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    return torch.empty_like(gate_up)


@torch.library.custom_op("cpt::product_and_sum", mutates_args=())
def product_and_sum(product: torch.Tensor, weights: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """residual [n, width] + product [n, inner] weights^T, of weights [width, inner]."""
    rows, (columns, inner) = len(product), weights.shape
    output = torch.empty_like(residual)
    sizes = (rows, columns, inner)
    _product_and_sum[_grid(*sizes[:2])](product, weights, residual, output, *sizes, **BLOCK, **LAUNCH)
    return output


@product_and_sum.register_fake
def _(product: torch.Tensor, weights: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(residual)


class GatedFeedForward(torch.autograd.Function):
    """hidden + down(silu(gate) x up) of RMS-normalised hidden states, to be compiled.

    The norm is linear but for a factor per token, `scale`, so its weights are part of `weights` and the
    factor comes after the product. Its gradient follows from the product's own (Zhang and Sennrich 2019).
    """

    @staticmethod
    def forward(
        hidden: torch.Tensor, weights: torch.Tensor, down: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """hidden [n, width], weights [2 inner, width] and down [width, inner] of one dtype.

        Returns the sum [n, width], and what the backward pass needs: scale, gate_up, product.
        """
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + epsilon)
        gate_up, product = gated_product(hidden, weights, scale)
        return product_and_sum(product, down, hidden), scale, gate_up, product

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:3], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weights, down, scale, gate_up, product = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_gate_up = gated_gradient(gradient, down, gate_up, scale)
        scaled = (of_gate_up @ weights).float()
        along = (scaled * hidden).mean(-1, keepdim=True) * scale.square()
        of_hidden = (gradient + scaled - hidden * along).to(hidden.dtype)
        return of_hidden, of_gate_up.T @ hidden, gradient.T @ product, None
