"""The kernels of torch.nn.attention.varlen for a CPU: plain formulas, document by document.

They replace only the kernels. The arguments, autograd and compiled shapes around them are PyTorch's own.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention import varlen

Tensor = torch.Tensor


def documents(query: Tensor, key: Tensor, starts: Tensor, longest: int) -> Iterator[slice]:
    """Assert what the kernel requires of its inputs, and yield the documents."""
    heads, size = query.shape[1:]
    assert starts.dtype == torch.int32 and starts[0] == 0 and starts[-1] == len(query) == len(key)
    assert query.stride(-1) == 1 and size % 8 == 0 and heads % key.shape[1] == 0
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        assert start < end <= start + longest
        yield slice(start, end)


def scores(query: Tensor, key: Tensor, scale: float, window: list[int]) -> Tensor:
    """[heads, queries, keys] in float32, -inf where a token doesn't attend; each head has its own keys."""
    back = torch.arange(len(query))[:, None] - torch.arange(len(key))
    outside = (back < -window[1]) if window[1] >= 0 else torch.zeros_like(back, dtype=torch.bool)
    outside |= (back > window[0]) if window[0] >= 0 else False
    return (scale * torch.einsum("qhd,khd->hqk", query.float(), key.float())).masked_fill(outside, -torch.inf)


def forward(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, key_starts: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention, the logarithms of its sums [heads, tokens], and a state of random numbers, unused."""
    longest, _, _, scale, window, *_ = rest
    groups = query.shape[1] // key.shape[1]
    attended, sums = torch.empty_like(query), torch.empty(query.shape[1], len(query))
    for part in documents(query, key, starts, longest):
        keys, values = (tensor[part].repeat_interleave(groups, 1) for tensor in (key, value))
        logits = scores(query[part], keys, scale, window)
        sums[:, part] = logits.logsumexp(-1)
        attended[part] = torch.einsum("hqk,khd->qhd", logits.softmax(-1), values.float()).to(query.dtype)
    return attended, sums, torch.zeros(2, dtype=torch.uint64)


def backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, sums: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by query, key and value (Dao et al. 2022, appendix B)."""
    starts, _, longest, _, _, _, scale, window = rest
    groups = query.shape[1] // key.shape[1]
    gradients = [torch.empty_like(tensor) for tensor in (query, key, value)]
    for part in documents(query, key, starts, longest):
        keys, values = (tensor[part].repeat_interleave(groups, 1).float() for tensor in (key, value))
        shares = (scores(query[part], keys, scale, window) - sums[:, part, None]).exp()
        d_attended = gradient[part].float()
        d_shares = torch.einsum("qhd,khd->hqk", d_attended, values)
        mean = (d_attended * attended[part]).sum(-1).T[..., None]
        d_scores = scale * shares * (d_shares - mean)
        results = (
            torch.einsum("hqk,khd->qhd", d_scores, keys),
            torch.einsum("hqk,qhd->khd", d_scores, query[part].float()).unflatten(1, (-1, groups)).sum(2),
            torch.einsum("hqk,qhd->khd", shares, d_attended).unflatten(1, (-1, groups)).sum(2),
        )
        for whole, result in zip(gradients, results, strict=True):
            whole[part] = result.to(whole.dtype)
    return tuple(gradients)


def install() -> None:
    """Use these kernels for tensors on the CPU in this process."""
    varlen._varlen_attn.register_kernel("cpu")(forward)
    varlen._varlen_attn_backward.register_kernel("cpu")(backward)
