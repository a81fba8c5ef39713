"""Packing a share of each corpus's sequences, so that proxies repeat text as often as the full run."""

import math
from fractions import Fraction

import numpy as np
import pytest
from token_corpora import permutation, source_of, write

from cpt.config_sections import Packing
from cpt.corpus.packing import Mixture, Supply
from cpt.corpus.strategies import Concatenate

PACKING = Packing(sequence_length=8, strategy="concatenate", maximum_epochs=3, seed=0)


@pytest.fixture
def source(tmp_path):
    """50 sequences of 8 tokens."""
    write(tmp_path, "a", [[7] * 50], 1)
    return source_of(tmp_path, "a", 1)


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.99])
def test_the_same_sequences_come_in_every_epoch_in_another_order(source, share):
    count = math.ceil(Fraction(str(share)) * 50)
    epochs = Supply(Concatenate(source, 8), 0, share).take(3 * count).reshape(3, count)
    chosen = set(permutation(50, "a", 0)[:count].tolist())
    assert all(set(epoch.tolist()) == chosen for epoch in epochs)
    assert count < 10 or len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_a_smaller_part_lies_inside_a_larger_one(source):
    small, large = (
        Supply(Concatenate(source, 8), 0, share).take(math.ceil(share * 50)) for share in (0.2, 0.6)
    )
    assert set(small.tolist()) < set(large.tolist())


def test_all_of_it_is_as_without_a_share(source):
    whole, plain = Supply(Concatenate(source, 8), 0, 1.0), Supply(Concatenate(source, 8), 0)
    assert np.array_equal(whole.take(120), plain.take(120))


def test_the_ledger_adds_up_and_counts_epochs_over_the_part(source, tmp_path):
    mixture = Mixture([source], {"a": 1.0}, PACKING, 0.2)
    assert mixture.sequences == 3 * 10
    (tmp_path / "packed").mkdir()
    mixture.write(tmp_path / "packed", "part")
    entry = mixture.ledger()["sources"]["a"]
    assert (entry["sequences_available"], entry["sequences_used"], entry["epochs"]) == (10, 30, 3)
    assert entry["packed_tokens"] == 80 and entry["repeated_tokens"] == 160
    assert entry["packed_tokens"] + entry["unused_tokens"] + entry["tail_tokens"] == source.tokens
