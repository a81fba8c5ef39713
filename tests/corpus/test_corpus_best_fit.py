"""Best-fit packing: loses nothing, cuts nothing that fits, equals the plain algorithm, pads little."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_corpora import corpora, run_pack, shares_of, source_of, write

from cpt.corpus.best_fit import best_fit
from cpt.corpus.strategies import best_fit_sequences


def starts_of(lengths: list[int]) -> tuple[np.ndarray, int]:
    """Where documents of these lengths start in their stream, and its tokens."""
    edges = np.cumsum([0, *lengths])
    return edges[:-1].astype(np.uint64), int(edges[-1])


def best_fit_one_by_one(lengths: list[int], length: int) -> list[list[tuple[int, int]]]:
    """Best-fit-decreasing in plain Python: the pieces (begin, size) of each sequence."""
    full, rests = [], []
    for begin, size in zip(starts_of(lengths)[0].tolist(), lengths, strict=True):
        whole = size - size % length
        full += [[(begin + part, length)] for part in range(0, whole, length)]
        if size % length:
            rests.append((begin + whole, size % length))
    opened: list[list[tuple[int, int]]] = []
    filled: list[int] = []  # numbers of sequences, the last filled one at the end
    for piece in sorted(rests, key=lambda piece: -piece[1]):
        rooms = {n: length - sum(size for _, size in opened[n]) for n in filled}
        fitting = [n for n in reversed(filled) if rooms[n] >= piece[1]]
        if fitting:
            number = min(fitting, key=lambda n: rooms[n])
            filled.remove(number)
        else:
            number = len(opened)
            opened.append([])
        opened[number].append(piece)
        filled.append(number)
    return full + [sorted(pieces) for pieces in opened]


def test_best_fit_by_hand():
    # Rests of 2 (from the 12), 6, 5, 4, 3 in sequences of 10: 10 | 6 + 4 | 2 + 5 + 3, in the stream's order.
    begins, sizes, offsets = best_fit(*starts_of([12, 6, 5, 4, 3]), 10)
    assert begins.tolist() == [0, 12, 23, 10, 18, 27]
    assert sizes.tolist() == [10, 6, 4, 2, 5, 3]
    assert offsets.tolist() == [0, 1, 3, 6]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 40))
def test_best_fit_equals_the_plain_algorithm(lengths, length):
    begins, sizes, offsets = best_fit(*starts_of(lengths), length)
    with tempfile.TemporaryDirectory() as temporary:
        if lengths:
            write(Path(temporary), "a", [[size - 1 for size in lengths]], 1)
            assert best_fit_sequences(source_of(Path(temporary), "a", 1), length) == len(offsets) - 1
    pieces = list(zip(begins.tolist(), sizes.tolist(), strict=True))
    assert [pieces[a:b] for a, b in pairwise(offsets)] == best_fit_one_by_one(lengths, length)


@pytest.mark.parametrize(("mean", "waste"), [(1000, 0.001), (150, 0.0001)])
def test_a_million_documents_leave_little_padding(mean, waste):
    lengths = np.random.default_rng(0).geometric(1 / mean, 1_000_000)
    starts, total = starts_of(lengths)
    begins, sizes, offsets = best_fit(starts, total, 2000)
    rooms = 2000 - np.add.reduceat(sizes, offsets[:-1], dtype=np.int64)
    assert sizes.sum(dtype=np.int64) == total and rooms.min() >= 0
    assert rooms.sum() < waste * total
    edges = np.sort(begins)  # the pieces lie side by side over the whole stream
    assert np.array_equal(edges[1:], (begins + sizes)[np.argsort(begins)][:-1])
    assert np.isin(starts.astype(np.int64), edges, assume_unique=True).all()


@settings(max_examples=60, deadline=None)
@given(corpora=corpora, length=st.integers(1, 50), epochs=st.integers(1, 3), data=st.data())
def test_every_document_is_there_once_and_in_order(corpora, length, epochs, data):
    shares = data.draw(shares_of.filter(lambda shares: len(shares) <= len(corpora)))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        documents = {name: write(root, name, corpora[n], 1 + 9000 * n) for n, name in enumerate(shares)}
        if not all(documents.values()):
            return
        shards = {name: len(corpora[n]) for n, name in enumerate(shares)}
        sequences, starts, ledger = run_pack(root, shares, shards, "x", length, epochs, "best_fit")
        lengths = np.load(root / "x" / "lengths.npy")
    assert lengths.dtype == np.uint32
    assert not any(sequence[n:].any() for sequence, n in zip(sequences, lengths, strict=True))  # EOS is 0
    assert ledger["tokens"] == lengths.sum() and ledger["padding_tokens"] == sequences.size - lengths.sum()
    pieces = [
        [tuple(sequence[a:b]) for a, b in pairwise([*inside, n])]
        for sequence, inside, n in zip(sequences.tolist(), starts, lengths, strict=True)
    ]
    assert all(inside[0] == 0 for inside in starts)
    for name, entry in ledger["sources"].items():
        own = [
            tuple(document[a : a + length])
            for document in documents[name]
            for a in range(0, len(document), length)
        ]
        # Sequences that hold nothing but EOS belong to any source.
        mine = [parts for parts in pieces if any(part in own and any(part) for part in parts)]
        used = [part for parts in mine for part in parts if any(part)]
        assert all(used.count(part) <= epochs for part in own if any(part))
        if entry["sequences_used"] >= entry["sequences_available"]:
            assert {part for part in own if any(part)} == set(used)
        assert entry["unused_tokens"] == 0 or entry["sequences_used"] < entry["sequences_available"]
        assert entry["packed_tokens"] + entry["unused_tokens"] == sum(map(len, documents[name]))
        total = entry["packed_tokens"] + entry["repeated_tokens"] + entry["padding_tokens"]
        assert total == entry["sequences_used"] * length
        assert entry["tail_tokens"] == 0
        assert entry["truncated_documents"] == sum(len(document) > length for document in documents[name])
    real = sum(entry["packed_tokens"] + entry["repeated_tokens"] for entry in ledger["sources"].values())
    assert ledger["tokens"] == real


def test_ledgers_report_the_other_strategy(tmp_path):
    write(tmp_path, "a", [[9, 4, 3], [20]], 1)
    for strategy, other in (("concatenate", "best_fit"), ("best_fit", "concatenate")):
        _, _, ledger = run_pack(tmp_path, {"a": 1.0}, {"a": 2}, strategy, 8, 1, strategy)
        assert ledger["strategy"] == strategy
        assert list(ledger["sources"]["a"]["other_strategies"]) == [other]
    # Documents of 10, 5, 4 and 21: 8 | 8 | 8 | 2 + 5 | 4 | 5 (paddings 1, 4, 3).
    entry = ledger["sources"]["a"]
    assert entry["sequences_available"] == 6 and entry["padding_tokens"] == 8
    assert entry["truncated_documents"] == 2
    assert entry["other_strategies"]["concatenate"] == {
        "sequences": 5,
        "padding_tokens": 0,
        "truncated_documents": 3,
    }
