"""Prefix trees: every sequence is in them once, and a token sees its own sequence and nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cpt.evaluate.stems import find_families, plan_rows
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
        assert len(tree) <= max(largest, tree.trunk * 5 // 4)
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


@settings(max_examples=150, deadline=None)
@given(sequences=SEQUENCES, largest=st.integers(1, 30), least=st.integers(1, 20))
def test_families_hold_every_tree_once_and_save_what_they_say(sequences, largest, least):
    longest = [len(sequence) - 1 for sequence in sequences]
    trees = grow_trees(sequences, largest)
    *families, rest = find_families(sequences, longest, trees, least)
    assert sorted(map(id, trees)) == sorted(id(tree) for family in (*families, rest) for tree in family.trees)
    assert rest.stem == 0
    for family in families:
        numbers = [number for tree in family.trees for number in tree.numbers]
        (stem,) = {sequences[number][: family.stem] for number in numbers}
        assert 0 < len(stem) <= min(longest[number] for number in numbers)
        assert family.saved == family.stem * (len(family.trees) - 1) >= least


@settings(max_examples=100, deadline=None)
@given(sequences=SEQUENCES, tokens=st.integers(1, 30))
def test_rows_behind_stems_hold_every_sequence(sequences, tokens):
    longest = [len(sequence) - 1 for sequence in sequences]
    rows = plan_rows(sequences, longest, tokens)
    assert sorted(number for row in rows for number in row.numbers) == list(range(len(sequences)))
    assert [len(row.stem) for row in rows] == sorted((len(row.stem) for row in rows), reverse=True)
    for row in rows:
        for tree in row.trees:
            for number, path in zip(tree.numbers, tree.paths, strict=True):
                assert (*row.stem, *(tree.tokens[place] for place in path)) == sequences[number]
                assert [tree.positions[place] for place in path] == [
                    *range(len(row.stem), len(sequences[number]))
                ]


def test_examples_that_all_questions_share_are_a_stem():
    """Two tasks, each with its examples, 12 questions and four answers of two tokens."""
    sequences = [
        (task, *range(10, 110), 1_000 + question, *range(30), answer)
        for task in (1, 2)
        for question in range(12)
        for answer in range(4)
    ]
    rows = plan_rows(sequences, [len(sequence) - 1 for sequence in sequences], 128)
    assert {row.stem for row in rows} == {sequences[0][:101], sequences[-1][:101]}
    computed = 2 * 101 + sum(len(tree) for row in rows for tree in row.trees)
    assert computed == 2 * (101 + 12 * (31 + 4))  # every token once
    # One question for each task has no stem: nothing would be saved.
    few = sequences[:4] + sequences[48:52]
    assert {row.stem for row in plan_rows(few, [len(sequence) - 1 for sequence in few], 128)} == {()}
