"""Tokens to sequences of one length: packed, shuffled, mixed (paper 3.2.4)."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import xxhash

from cpt.corpus.strategies import STRATEGIES, Strategy

BLOCK_BYTES = 2**25  # of sequences written at once


def shuffled(count: int, corpus: str, seed: int, epoch: int = 0) -> np.ndarray:
    """A permutation (int64) of `count` sequences: a function of its arguments alone.

    The order of the raw 64-bit numbers of a Philox generator (Salmon et al. 2011), whose stream NumPy
    guarantees to stay the same in later versions (NEP 19), unlike that of Generator.permutation.
    """
    key = xxhash.xxh3_128_intdigest(f"{seed}/{corpus}/{count}{f'/{epoch}' if epoch else ''}".encode())
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def mixed(shares: dict[str, float], available: dict[str, int]) -> np.ndarray:
    """For each output sequence the number (uint8) of its source, in the order of `shares`.

    Sequence k comes from the source with the largest deficit share * (k + 1) - taken; among equals the
    first. Ends where that source has no sequence left. Computed in whole numbers, so it is exact.
    """
    fractions = [Fraction(str(share)) for share in shares.values()]
    unit = np.lcm.reduce([fraction.denominator for fraction in fractions], dtype=object)
    weights = [int(fraction * unit) for fraction in fractions]
    left = [available[corpus] for corpus in shares]
    deficits = [0] * len(weights)
    chosen = bytearray()
    while True:
        deficits = [deficit + weight for deficit, weight in zip(deficits, weights, strict=True)]
        source = deficits.index(max(deficits))
        if not left[source]:
            return np.frombuffer(chosen, np.uint8)
        chosen.append(source)
        left[source] -= 1
        deficits[source] -= unit


def blocks(
    strategies: list[Strategy], chosen: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The mixture's sequences in blocks of about `BLOCK_BYTES`.

    A source that is asked for more sequences than it has starts again, in another order.
    Yields sequences [block, length], the positions (uint32, flat) in them at which documents start, how
    many of these each sequence has (int64 [block]), and how many tokens before the padding (uint32 [block]).
    """
    orders = [numbers(strategy, seed) for strategy in strategies]
    first_source = strategies[0].source
    length, padding = strategies[0].length, first_source.tokenizer["eos_token_id"]
    dtype = np.dtype(first_source.tokenizer["dtype"]).newbyteorder("<")
    rows = max(1, BLOCK_BYTES // (length * dtype.itemsize))
    for first in range(0, len(chosen), rows):
        part = chosen[first : first + rows]
        sequences = np.empty((len(part), length), dtype)
        lengths = np.empty(len(part), np.uint32)
        starts, counts = [], np.empty(len(part), np.int64)
        for row, number in enumerate(part.tolist()):
            inside, filled = strategies[number].read(next(orders[number]), sequences[row])
            sequences[row, filled:] = padding
            starts.append(inside)
            counts[row], lengths[row] = len(inside), filled
        yield sequences, np.concatenate(starts), counts, lengths


def numbers(strategy: Strategy, seed: int) -> Iterator[int]:
    """The numbers of the source's sequences: each once, shuffled, epoch after epoch."""
    for epoch in itertools.count():
        yield from shuffled(strategy.sequences, strategy.source.corpus, seed, epoch).tolist()


def account(strategy: Strategy, lengths: np.ndarray, seed: int) -> dict[str, Any]:
    """Where every token of a source went, which documents the cuts go through, and the other strategies.

    `lengths` (uint32) are the tokens before the padding of the source's sequences, as they were written.
    packed_tokens + unused_tokens + tail_tokens = tokens, and sequences_used * length = packed_tokens +
    repeated_tokens + padding_tokens. Documents cut are counted over the whole source.
    """
    source, used, available = strategy.source, len(lengths), strategy.sequences
    unused = shuffled(available, source.corpus, seed)[used:]
    entry = {
        "documents": source.documents,
        "tokens": source.tokens,
        "sequences_available": available,
        "sequences_used": used,
        "sequences_repeated": max(0, used - available),
        "epochs": round(used / available, 6),
        "packed_tokens": int(lengths[:available].sum()),
        "repeated_tokens": int(lengths[available:].sum()),
        "padding_tokens": used * strategy.length - int(lengths.sum()),
        "unused_tokens": strategy.tokens_in(unused),
        "tail_tokens": strategy.tail_tokens,
        "truncated_documents": strategy.truncated_documents,
        "other_strategies": {
            name: other(source, strategy.length).summary()
            for name, other in STRATEGIES.items()
            if not isinstance(strategy, other)
        },
    }
    assert entry["packed_tokens"] + entry["unused_tokens"] + entry["tail_tokens"] == source.tokens
    return entry
