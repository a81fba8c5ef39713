"""Stems: long beginnings that many sequences share, such as a task's examples, computed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cpt.evaluate.trees import Tree, common_prefix, grow_trees, pack_trees

# A stem costs an extra pass and a partly filled row, so it must save at least a row divided by this.
LEAST_SAVED = 8


class Row(NamedTuple):
    """What goes through a model at once: trees, after a stem whose states are already computed."""

    stem: tuple[int, ...]
    trees: list[Tree]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the sequences, in the order of the trees' paths."""
        return [number for tree in self.trees for number in tree.numbers]


@dataclass
class Family:
    """Trees that share their first `stem` tokens; computing these once saves `saved` tokens."""

    stem: int
    trees: list[Tree]
    saved: int = 0


@dataclass
class _Interval:
    """Neighbouring trees from place `begin` that share `depth` tokens, and the best families among them."""

    depth: int
    begin: int
    families: list[Family] = field(default_factory=list)


def find_families(
    sequences: Sequence[tuple[int, ...]], longest: Sequence[int], trees: list[Tree], least: int
) -> list[Family]:
    """Sort trees (of grow_trees) into families with stems that save the most tokens; the last has no stem.

    A stem is at most as long as the `longest` of each of its sequences, and saves at least `least` tokens.
    """
    # The most tokens that each tree's sequences can share with its neighbours.
    common = [
        min(
            common_prefix(sequences[tree.numbers[0]], sequences[tree.numbers[-1]]),
            *(longest[number] for number in tree.numbers),
        )
        for tree in trees
    ]
    depths = [
        min(common_prefix(sequences[one.numbers[-1]], sequences[two.numbers[0]]), *pair)
        for (one, two), pair in zip(pairwise(trees), pairwise(common), strict=True)
    ]
    stack = [_Interval(0, 0)]
    for end, depth in enumerate([*depths, 0], 1):
        # An interval of one tree begins here. Intervals deeper than `depth`, shared with the next tree, end.
        closed = _Interval(depth, end - 1)
        while stack[-1].depth > depth:
            below, closed = closed.families, stack.pop()
            closed.families += below
            saved = closed.depth * (end - closed.begin - 1)
            if saved >= max(least, 1 + sum(family.saved for family in closed.families)):
                closed.families = [Family(closed.depth, trees[closed.begin : end], saved)]
        if stack[-1].depth < depth:
            stack.append(_Interval(depth, closed.begin, closed.families))
        else:
            stack[-1].families += closed.families
    inside = {id(tree) for family in stack[0].families for tree in family.trees}
    return [*stack[0].families, Family(0, [tree for tree in trees if id(tree) not in inside])]


def plan_rows(
    sequences: Sequence[tuple[int, ...]], longest: Sequence[int], tokens: int, shares: bool = True
) -> list[Row]:
    """Returns rows of at most `tokens` tokens that contain every sequence, the longest stems first.

    A stem is at most as long as the `longest` of each of its sequences. Unless the model `shares` beginnings,
    no row has a stem, and each tree has one path.
    """
    if not shares:
        return [Row((), packed) for packed in pack_trees(grow_trees(sequences, 0), tokens)]
    rows = []
    for family in find_families(sequences, longest, grow_trees(sequences, tokens), tokens // LEAST_SAVED):
        trees = family.trees
        if family.stem:
            numbers = [number for tree in trees for number in tree.numbers]
            trees = grow_trees([sequences[number][family.stem :] for number in numbers], tokens, family.stem)
            for tree in trees:
                tree.numbers = [numbers[number] for number in tree.numbers]
        for packed in pack_trees(trees, tokens):
            rows.append(Row(sequences[packed[0].numbers[0]][: family.stem], packed))
    return sorted(rows, key=lambda row: (-len(row.stem), row.stem))  # stable: large trees first
