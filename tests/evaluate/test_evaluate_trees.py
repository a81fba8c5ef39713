"""Prefix trees: every sequence is in them once, and a token sees its own sequence and nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cpt.evaluate.trees import grow_trees, pack_trees

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(sequences=SEQUENCES, largest=st.integers(0, 40))
def test_trees_hold_every_sequence_and_tokens_see_their_own(sequences, largest):
    trees = grow_trees(sequences, largest)
    assert sorted(number for tree in trees for number in tree.numbers) == list(range(len(sequences)))
    for tree in trees:
        sees = {place: list(range(place + 1)) for place in range(tree.trunk)} | dict(tree.rest())
        assert sorted(sees) == list(range(len(tree)))
        for number, path in zip(tree.numbers, tree.paths, strict=True):
            assert tuple(tree.tokens[place] for place in path) == sequences[number]
            for depth, place in enumerate(path):
                assert tree.positions[place] == depth and sees[place] == path[: depth + 1]
        assert len(tree) <= max(largest, tree.trunk)
    rows = pack_trees(trees, 16)
    assert sorted(map(id, trees)) == sorted(id(tree) for row in rows for tree in row)
    assert all(len(row) == 1 or sum(map(len, row)) <= 16 for row in rows)


def test_what_begins_alike_is_stored_once():
    question = tuple(range(100, 130))
    answers = [(*question, 7, n) for n in range(4)]
    (tree,) = grow_trees([*answers, question, question], 1_000)
    assert len(tree) == 30 + 1 + 4
    # Two questions that begin alike by a word aren't worth a common tree.
    apart = [(1, *range(200, 300)), (1, *range(300, 400))]
    assert len(grow_trees(apart, 1_000)) == 2
