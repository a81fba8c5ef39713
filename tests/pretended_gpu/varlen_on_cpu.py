"""The kernels of torch.nn.attention.varlen for a CPU, which has none: plain formulas, document by document.

Only they are replaced. What PyTorch does around them (arguments, autograd, shapes when compiled) is its own.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention import varlen

Tensor = torch.Tensor


def documents(query: Tensor, key: Tensor, starts: Tensor, longest: int) -> Iterator[slice]:
    """What the kernel asks for is so; the documents."""
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
        found = scores(query[part], keys, scale, window)
        sums[:, part] = found.logsumexp(-1)
        attended[part] = torch.einsum("hqk,khd->qhd", found.softmax(-1), values.float()).to(query.dtype)
    return attended, sums, torch.zeros(2, dtype=torch.uint64)


def backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, sums: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by query, key and value (Dao et al. 2022, appendix B)."""
    starts, _, longest, _, _, _, scale, window = rest
    groups = query.shape[1] // key.shape[1]
    found = [torch.empty_like(tensor) for tensor in (query, key, value)]
    for part in documents(query, key, starts, longest):
        keys, values = (tensor[part].repeat_interleave(groups, 1).float() for tensor in (key, value))
        shares = (scores(query[part], keys, scale, window) - sums[:, part, None]).exp()
        by_attended = gradient[part].float()
        by_shares = torch.einsum("qhd,khd->hqk", by_attended, values)
        mean = (by_attended * attended[part]).sum(-1).T[..., None]
        by_scores = scale * shares * (by_shares - mean)
        results = (
            torch.einsum("hqk,khd->qhd", by_scores, keys),
            torch.einsum("hqk,qhd->khd", by_scores, query[part].float()).unflatten(1, (-1, groups)).sum(2),
            torch.einsum("hqk,qhd->khd", shares, by_attended).unflatten(1, (-1, groups)).sum(2),
        )
        for whole, result in zip(found, results, strict=True):
            whole[part] = result.to(whole.dtype)
    return tuple(found)


def install() -> None:
    """Use them for tensors on the CPU in this process."""
    varlen._varlen_attn.register_kernel("cpu")(forward)
    varlen._varlen_attn_backward.register_kernel("cpu")(backward)
