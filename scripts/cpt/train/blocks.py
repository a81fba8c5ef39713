"""Causal attention on a CPU in bfloat16: matrix products over one block of queries at a time.

On a processor without matrix units, PyTorch's fused kernel takes 1.5 times as long for 2,000 tokens and more
than twice as long for 256 (docs/performance-bfloat16.md). Scores and probabilities are bfloat16, as in
transformers' `eager` attention in autocast; softmax computes in float32.
"""

import torch

QUERIES = 128  # per block and head; half as many in short sequences, to compute fewer masked scores


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """softmax(queries keys^T) values, where each query sees the keys up to its own position.

    Args:
        queries: scaled, [batch * key heads, group, length, head]; a group shares its keys.
        keys, values: [batch * key heads, length, head].
        mask: bool [batch or 1, 1, length, length]: which keys a query attends to; None: all up to it.

    Returns: as queries.
    """
    attended = torch.empty_like(queries)
    for begin in range(0, queries.shape[2], _block(queries.shape[2])):
        rows, probabilities = _probabilities(queries, keys, mask, begin)
        end = probabilities.shape[-1]
        attended[:, :, begin:end] = torch.bmm(probabilities, values[:, :end]).unflatten(1, rows)
    return attended


def attend_backward(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    gradient: torch.Tensor,
) -> list[torch.Tensor]:
    """Gradients of `attend` with respect to queries (bfloat16), keys and values (float32)."""
    query_gradient = torch.empty_like(queries)
    key_gradient, value_gradient = (torch.zeros_like(part, dtype=torch.float32) for part in (keys, values))
    for begin in range(0, queries.shape[2], _block(queries.shape[2])):
        rows, probabilities = _probabilities(queries, keys, mask, begin)
        end = probabilities.shape[-1]
        here = gradient[:, :, begin:end].flatten(1, 2)
        value_gradient[:, :end] += torch.bmm(probabilities.transpose(1, 2), here)
        probability_gradient = torch.bmm(here, values[:, :end].transpose(1, 2))
        score_gradient = torch._softmax_backward_data(
            probability_gradient, probabilities, -1, probabilities.dtype
        )
        query_gradient[:, :, begin:end] = torch.bmm(score_gradient, keys[:, :end]).unflatten(1, rows)
        key_gradient[:, :end] += torch.bmm(
            score_gradient.transpose(1, 2), queries[:, :, begin:end].flatten(1, 2)
        )
    return [query_gradient, key_gradient, value_gradient]


def _block(length: int) -> int:
    return QUERIES if length > 4 * QUERIES else QUERIES // 2


def _probabilities(
    queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None, begin: int
) -> tuple[tuple[int, int], torch.Tensor]:
    """Returns a block's (group, queries) and probabilities, [batch * key heads, group * queries, keys]."""
    both, group, length, _ = queries.shape
    end = min(length, begin + _block(length))
    scores = torch.bmm(queries[:, :, begin:end].flatten(1, 2), keys[:, :end].transpose(1, 2))
    rows = group, end - begin
    apart = scores.view(both, *rows, end)
    if mask is None:
        # Adding takes a third of the time of filling by a mask.
        apart[..., begin:] += scores.new_full((rows[1], rows[1]), -torch.inf).triu_(1)
    else:
        seen = mask[:, 0, begin:end, :end]  # [batch or 1, queries, keys]
        apart.view(len(seen), -1, *rows[1:], end).masked_fill_(~seen[:, None], -torch.inf)
    return rows, torch.softmax(scores, -1)
