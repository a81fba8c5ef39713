"""Prefix trees: token sequences that store common beginnings once, packed into rows without padding."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# In a Llama of 100M to 2B parameters, a token costs about as much as attention between this many pairs of
# tokens, over all layers: 2 * (parameters of a layer) against 4 * width for a pair; 3,000 for 135M. Masked
# attention is slower by a third or more, so the value is lower.
PAIRS_PER_TOKEN = 1_000


@dataclass
class Tree:
    """Sequences with a common beginning, as the tokens of a depth-first walk.

    `tokens` and `positions` [tokens]: each token and its place in its sequence. `paths[i]` are the places in
    `tokens` of the i-th sequence, whose number in the input is `numbers[i]`. The first `trunk` tokens are the
    first sequence, where each token sees all tokens before it. A later token sees its path up to itself.
    """

    tokens: list[int]
    positions: list[int]
    trunk: int
    paths: list[list[int]]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.tokens)

    def rest(self) -> Iterator[tuple[int, list[int]]]:
        """Yields for each token behind the trunk its place and the places that it sees, itself included."""
        begin = self.trunk
        for path in self.paths[1:]:
            for depth in range(len(path)):
                if path[depth] >= begin:
                    yield path[depth], path[: depth + 1]
            begin = max(begin, path[-1] + 1)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns the length of the common beginning of two sequences."""
    lengths = range(1, min(len(one), len(other)) + 1)
    return bisect(lengths, False, key=lambda length: one[:length] != other[:length])


def grow_trees(sequences: Sequence[tuple[int, ...]], largest: int, stem: int = 0) -> list[Tree]:
    """Returns trees that hold every sequence once, in lexicographic order; equal sequences share a path.

    `stem` tokens come before each sequence, outside the trees.

    In this order a sequence shares its longest beginning with its neighbour. It joins the neighbour's tree if
    the saved tokens are worth the attention spent on tokens that don't see each other (PAIRS_PER_TOKEN), and
    if the tree stays within `largest` tokens, or within 1.25 times its trunk if that is more. So the answers
    to a long question stay together. With `largest` 0, only equal sequences share a tree.
    """
    trees: list[Tree] = []
    last: tuple[int, ...] = ()
    for number in sorted(range(len(sequences)), key=lambda number: (sequences[number], number)):
        sequence = sequences[number]
        shared = common_prefix(last, sequence)
        new, last = len(sequence) - shared, sequence
        if trees and shared:
            tree = trees[-1]
            behind = len(tree) - tree.trunk + new
            room = max(largest, tree.trunk + tree.trunk // 4) if largest else 0
            if new == 0:  # equal to the last one
                tree.paths.append(tree.paths[-1])
                tree.numbers.append(number)
                continue
            if len(tree) + new <= room and shared * PAIRS_PER_TOKEN >= new * behind:
                tree.paths.append([*tree.paths[-1][:shared], *range(len(tree), len(tree) + new)])
                tree.tokens += sequence[shared:]
                tree.positions += range(stem + shared, stem + len(sequence))
                tree.numbers.append(number)
                continue
        places = list(range(len(sequence)))
        positions = list(range(stem, stem + len(sequence)))
        trees.append(Tree(list(sequence), positions, len(places), [places], [number]))
    return trees


def pack_trees(trees: Sequence[Tree], tokens: int) -> list[list[Tree]]:
    """Returns rows of whole trees, each of at most `tokens` tokens (more only if a single tree has more).

    Large trees come first, so the work needs its peak memory at the beginning.
    """
    rows: list[list[Tree]] = []
    size = tokens
    for tree in sorted(trees, key=lambda tree: (-len(tree), tree.numbers)):
        if size + len(tree) > tokens:
            rows.append([])
            size = 0
        rows[-1].append(tree)
        size += len(tree)
    return rows
