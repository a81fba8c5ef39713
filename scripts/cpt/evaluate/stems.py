"""Long beginnings that many sequences share, such as a task's examples: computed once, before the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cpt.evaluate.trees import Tree, common_prefix, grow_trees, pack_trees

# A stem costs a pass of its own, and a row that is only filled in part: it must save this share of a row.
LEAST_SAVED = 8


class Row(NamedTuple):
    """What goes through a model at once: trees, and the stem in front of them, whose states are known."""

    stem: tuple[int, ...]
    trees: list[Tree]

    @property
    def numbers(self) -> list[int]:
        """Of the sequences, in the order of the trees' paths."""
        return [number for tree in self.trees for number in tree.numbers]


@dataclass
class Family:
    """Trees that begin alike: the first `stem` tokens are computed once, which saves `saved` tokens."""

    stem: int
    trees: list[Tree]
    saved: int = 0


@dataclass
class _Interval:
    """Neighbouring trees, from place `begin`, with `depth` tokens in common, and the best families in it."""

    depth: int
    begin: int
    families: list[Family] = field(default_factory=list)


def find_families(
    sequences: Sequence[tuple[int, ...]], longest: Sequence[int], trees: list[Tree], least: int
) -> list[Family]:
    """Sort trees (of grow_trees) into families with stems, so that the most is saved; the last has no stem.

    A stem is no longer than the `longest` that each of its sequences can have, and saves at least `least`
    tokens.
    """
    # What each tree's sequences can have in common with those of its neighbours.
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
        # An interval of one tree begins here; those deeper than what it shares with the next end here.
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
    """Rows of at most `tokens` tokens with every sequence, those of the longest stems first.

    A stem is no longer than the `longest` that each of its sequences can have. Unless the model `shares`
    beginnings, there is no stem, and a tree has one path.
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
