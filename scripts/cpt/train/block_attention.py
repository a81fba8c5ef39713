"""Causal attention on a CPU, some queries at a time, as matrix products that leave out what no query sees.

PyTorch's CPU kernel computes tiles of 32 x 512 scores; here a block of queries meets all keys that it may see
at once, which makes larger products, and queries that share a key head (grouped queries, Ainslie et al. 2023)
lie in one matrix, so that keys and values aren't repeated. Scores are never kept: the backward pass computes
them again (Dao et al. 2022). A block sees no key before its first document, so that document masks save
time. Queries are [batch, key heads, length * group, head size] with the group of a position side by side,
keys and values [batch, key heads, length, head size]; float32.
"""

from typing import NamedTuple

import torch

from cpt.train.workspace import Workspace

# Rows of a product: few, and its parts stay in the processor's cache; many, and its products are efficient.
ROWS = 192

softmax_backward = torch.ops.aten._softmax_backward_data


class Block(NamedTuple):
    """Queries at positions `start` to `end` and the keys from `first` to `end` that any of them sees.

    `mask` is float32 [end - start, 1, end - since], 0 or -infinity, for the keys from position `since` on;
    those before are seen by all queries of the block.
    """

    start: int
    end: int
    first: int
    since: int
    mask: torch.Tensor


def causal_blocks(length: int, group: int) -> list[Block]:
    """Blocks for a causal mask; `group` queries share a key head."""
    size = max(1, ROWS // group)
    later = torch.full((size, size), -torch.inf).triu_(1)
    return [
        Block(start, end, 0, start, later[: end - start, None, : end - start])
        for start in range(0, length, size)
        for end in [min(start + size, length)]
    ]


def masked_blocks(seen: torch.Tensor, group: int) -> list[Block]:
    """Blocks for a causal mask [length, length] of any kind, true where a query (row) sees a key (column)."""
    size = max(1, ROWS // group)
    blocks = []
    for start in range(0, len(seen), size):
        end = min(start + size, len(seen))
        first = int(seen[start:end].any(0).int().argmax())
        part = seen[start:end, None, first:end]
        blocks.append(
            Block(start, end, first, first, torch.zeros(part.shape).masked_fill_(~part, -torch.inf))
        )
    return blocks


def _probabilities(
    block: Block, queries: torch.Tensor, keys: torch.Tensor, group: int, workspace: Workspace
) -> torch.Tensor:
    """Softmax of a block's scores [queries * group, keys], of one key head; in the workspace."""
    scores = workspace.take("probabilities", len(queries), len(keys))
    torch.mm(queries, keys.T, out=scores)
    masked = scores.view(-1, group, len(keys))[:, :, block.since - block.first :]
    masked.add_(block.mask)
    return torch.softmax(scores, -1, out=scores)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks: list[list[Block]],
    workspace: Workspace,
) -> torch.Tensor:
    """Softmax(queries keys^T) values, shaped like the queries (which are scaled already); in the workspace.

    `blocks` are those of each sequence of the batch, or one list for all.
    """
    attended = workspace.take("attended", *queries.shape)
    for q, k, v, out, own in _heads(queries, keys, values, attended, blocks=blocks):
        group = len(q) // len(k)
        for block in own:
            rows, seen = slice(block.start * group, block.end * group), slice(block.first, block.end)
            torch.mm(_probabilities(block, q[rows], k[seen], group, workspace), v[seen], out=out[rows])
    return attended


def attend_backward(
    gradient: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks: list[list[Block]],
    workspace: Workspace,
    of_values: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of queries and keys in the workspace; that of the values is written to `of_values`."""
    of_queries = workspace.take("of queries", *queries.shape)
    of_keys = workspace.take("of keys", *keys.shape).zero_()
    of_values.zero_()
    parts = (queries, keys, values, gradient, of_queries, of_keys, of_values)
    for q, k, v, g, of_q, of_k, of_v, own in _heads(*parts, blocks=blocks):
        group = len(q) // len(k)
        for block in own:
            rows, seen = slice(block.start * group, block.end * group), slice(block.first, block.end)
            probabilities = _probabilities(block, q[rows], k[seen], group, workspace)
            of_v[seen].addmm_(probabilities.T, g[rows])
            of_scores = workspace.take("of scores", *probabilities.shape)
            torch.mm(g[rows], v[seen].T, out=of_scores)
            softmax_backward(of_scores, probabilities, -1, of_scores.dtype, grad_input=of_scores)
            torch.mm(of_scores, k[seen], out=of_q[rows])
            of_k[seen].addmm_(of_scores.T, q[rows])
    return of_queries, of_keys


def _heads(*tensors: torch.Tensor, blocks: list[list[Block]]):
    """The matrices of each sequence and key head, and the sequence's blocks."""
    for sequence in range(len(tensors[0])):
        own = blocks[sequence if len(blocks) > 1 else 0]
        for head in range(tensors[0].shape[1]):
            yield *(tensor[sequence, head] for tensor in tensors), own
