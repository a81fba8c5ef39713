"""Properties of packing: the ledger adds up, shares are exact, a smaller mixture is a prefix; epochs."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_corpora import chosen_of, corpora, permutation, run_pack, shares_of, source_of, write

from cpt.corpus.packing import Supply
from cpt.corpus.strategies import STRATEGIES, Concatenate, cut_by_concatenation


@settings(max_examples=40, deadline=None)
@given(corpora=corpora, length=st.integers(1, 9), epochs=st.integers(1, 3), data=st.data())
def test_every_token_is_accounted_for(corpora, length, epochs, data):
    shares = data.draw(shares_of.filter(lambda shares: len(shares) <= len(corpora)))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        documents = {name: write(root, name, corpora[n], 1 + 9000 * n) for n, name in enumerate(shares)}
        streams = {name: [number for d in own for number in d] for name, own in documents.items()}
        if any(len(stream) < length for stream in streams.values()):
            return
        shards = {name: len(corpora[n]) for n, name in enumerate(shares)}
        sequences, starts, ledger = run_pack(root, shares, shards, "x", length, epochs)
    cut = {
        name: [tuple(stream[i : i + length]) for i in range(0, len(stream) - length + 1, length)]
        for name, stream in streams.items()
    }
    packed = [tuple(sequence) for sequence in sequences.tolist()]
    assert ledger["tokens"] == len(packed) * length
    assert sum(entry["sequences_used"] for entry in ledger["sources"].values()) == len(packed)
    for name, entry in ledger["sources"].items():
        # Every token that was read is packed once, unused, or in the tail.
        once = entry["sequences_used"] - entry["sequences_repeated"]
        assert entry["packed_tokens"] == once * length
        assert entry["repeated_tokens"] == entry["sequences_repeated"] * length
        assert once * length + entry["unused_tokens"] + entry["tail_tokens"] == len(streams[name])
        assert entry["sequences_used"] <= epochs * entry["sequences_available"]
        edges = np.cumsum([0, *map(len, documents[name])])
        assert entry["truncated_documents"] == sum(
            a // length != (b - 1) // length for a, b in pairwise(edges)
        )
    # Each sequence is in one stream, unless it holds only EOS.
    for sequence, begins in zip(packed, starts, strict=True):
        owners = [name for name in cut if sequence in cut[name]]
        assert owners
        if any(sequence):
            (name,) = owners
            position = cut[name].index(sequence) * length
            before = [streams[name][i - 1] if i else 0 for i in range(position, position + length)]
            assert begins == [i for i, number in enumerate(before) if number == 0]


@settings(max_examples=100, deadline=None)
@given(shares=shares_of, available=st.integers(0, 300))
def test_every_prefix_has_exact_shares(shares, available):
    chosen = chosen_of(shares, dict.fromkeys(shares, available))
    steps = np.arange(1, len(chosen) + 1)
    for number, share in enumerate(shares.values()):
        # Never a whole sequence ahead. As the deviations add up to 0, less than n - 1 behind.
        ahead = np.cumsum(chosen == number) - share * steps
        assert ahead.max(initial=0) < 1
        assert -ahead.min(initial=0) < max(1, len(shares) - 1)
    counts = np.bincount(chosen, minlength=len(shares))
    assert counts.max() == available


@settings(max_examples=50, deadline=None)
@given(shares=shares_of, smaller=st.integers(0, 60), more=st.integers(0, 60))
def test_a_mixture_of_less_text_is_a_prefix(shares, smaller, more):
    short, long = (chosen_of(shares, dict.fromkeys(shares, n)) for n in (smaller, smaller + more))
    assert np.array_equal(short, long[: len(short)])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fewer_epochs_are_a_prefix(tmp_path, strategy):
    generator = np.random.default_rng(0)
    for n, name in enumerate(("a", "b")):
        write(tmp_path, name, [generator.integers(0, 20, 30).tolist() for _ in range(2)], 1 + 9000 * n)
    mixture, shards = {"a": 0.6, "b": 0.4}, {"a": 2, "b": 2}
    one, one_starts, ledger = run_pack(tmp_path, mixture, shards, "one", 8, 1, strategy)
    assert all(entry["sequences_repeated"] == 0 for entry in ledger["sources"].values())
    three, three_starts, ledger = run_pack(tmp_path, mixture, shards, "three", 8, 3, strategy)
    assert len(three) > 2.5 * len(one)
    assert np.array_equal(three[: len(one)], one)
    assert three_starts[: len(one)] == one_starts
    for entry in ledger["sources"].values():
        assert entry["sequences_repeated"] == entry["sequences_used"] - entry["sequences_available"]
        assert entry["epochs"] == pytest.approx(entry["sequences_used"] / entry["sequences_available"])
        assert entry["unused_tokens"] == 0
    assert max(entry["epochs"] for entry in ledger["sources"].values()) == 3


def test_each_epoch_has_an_order_of_its_own(tmp_path):
    write(tmp_path, "a", [[7] * 50], 1)
    supply = Supply(Concatenate(source_of(tmp_path, "a", 1), 8), 0)
    epochs = supply.take(150).reshape(3, 50).tolist()
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] == permutation(50, "a", 0).tolist()


def test_cuts_by_hand(tmp_path):
    # Documents at 0..3, 3..8, 8..10 in sequences of 4: only the second lies in two (4..7 ends at 8).
    write(tmp_path, "a", [[2, 4], [1]], 1)
    assert cut_by_concatenation(source_of(tmp_path, "a", 2), 4) == 1
