"""Tokens to sequences of one length: concatenated, shuffled, mixed (paper 3.2.4)."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cpt.arrays import load_array
from cpt.corpus.best_fit import best_fit, cut_by_concatenation
from cpt.corpus.layout import shard_path, shards_of
from cpt.errors import UserError
from cpt.files import read_json

BLOCK_BYTES = 2**25  # of sequences written at once
TOKENIZER_KEYS = ("dtype", "eos_token_id", "vocab_size", "tokenizer_sha256")


class TokenSource:
    """The tokens of a corpus: its shards, memory-mapped, as one stream.

    Attributes: `tokens`, `documents`, `tokenizer` (what all shards must agree on), `starts` (uint64: where
    in the stream each document starts).
    """

    def __init__(self, root: Path, corpus: str, shards: int):
        self.corpus = corpus
        self.arrays: list[np.ndarray] = []
        starts: list[np.ndarray] = []
        self.tokens = self.documents = 0
        self.offsets = [0]
        self.tokenizer: dict[str, Any] = {}
        for _, shard in shards_of({corpus: shards}):
            manifest = read_json(shard_path(root, corpus, "tokens", shard, ".json"))
            path = shard_path(root, corpus, "tokens", shard, ".tokens")
            require_same_tokenizer(self.tokenizer, manifest, path)
            ends = load_array(shard_path(root, corpus, "tokens", shard, ".ends.npy"))
            self._add(path, manifest, ends)
            if len(ends):
                starts.append(
                    np.concatenate([[0], ends[:-1]]).astype(np.uint64) + np.uint64(self.offsets[-2])
                )
        self.starts = np.concatenate([np.empty(0, np.uint64), *starts])
        if not self.tokens:
            raise UserError(
                f"corpus {corpus}: there are no tokens to pack; see filtered/*.drops.csv and "
                f"tokens/*.drops.csv under {root / corpus} for the rules that dropped its documents"
            )

    def _add(self, path: Path, manifest: dict[str, Any], ends: np.ndarray) -> None:
        dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
        whole = path.stat().st_size == manifest["tokens"] * dtype.itemsize
        if not whole or len(ends) != manifest["documents"] or (len(ends) and ends[-1] != manifest["tokens"]):
            raise UserError(f"{path}: doesn't fit its manifest; delete it and run again")
        empty = np.empty(0, dtype)
        self.arrays.append(np.memmap(path, dtype, mode="r") if manifest["tokens"] else empty)
        self.tokens += manifest["tokens"]
        self.documents += manifest["documents"]
        self.offsets.append(self.tokens)

    def read(self, begin: int, out: np.ndarray) -> None:
        """Copy the len(out) tokens from position `begin` of the stream on into `out`."""
        filled = 0
        shard = int(np.searchsorted(self.offsets, begin, side="right")) - 1
        while filled < len(out):
            here = begin + filled - self.offsets[shard]
            part = self.arrays[shard][here : here + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1


def require_same_tokenizer(expected: dict[str, Any], manifest: dict[str, Any], path: Path) -> None:
    """Check a shard's manifest against what the shards before had; the first one fills `expected`.

    Raises UserError naming the file and the key that differs.
    """
    for key in TOKENIZER_KEYS:
        if expected.setdefault(key, manifest[key]) != manifest[key]:
            raise UserError(
                f"{path}: made with another tokenizer than the shards before it ({key} is {manifest[key]!r}, "
                f"not {expected[key]!r}); delete the tokens of this mixture's corpora and run again"
            )


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
    sources: list[TokenSource], chosen: np.ndarray, length: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The mixture's sequences in blocks of about `BLOCK_BYTES`.

    A source that is asked for more sequences than it has starts again, in another order.
    Yields sequences [block, length], the positions (uint32, flat) in them at which documents start, and
    how many of these each sequence has (int64 [block]).
    """
    orders = [positions(source, length, seed) for source in sources]
    dtype = sources[0].arrays[0].dtype
    rows = max(1, BLOCK_BYTES // (length * dtype.itemsize))
    for first in range(0, len(chosen), rows):
        part = chosen[first : first + rows]
        begins = np.empty(len(part), np.int64)
        sequences = np.empty((len(part), length), dtype)
        starts, counts = [], np.empty(len(part), np.int64)
        for row, number in enumerate(part.tolist()):
            begins[row] = next(orders[number])
            sources[number].read(int(begins[row]), sequences[row])
        edges = np.empty((2, len(part)), np.int64)
        for number, source in enumerate(sources):
            mine = part == number
            edges[0, mine] = np.searchsorted(source.starts, begins[mine].astype(np.uint64))
            edges[1, mine] = np.searchsorted(source.starts, (begins[mine] + length).astype(np.uint64))
        for row, number in enumerate(part.tolist()):
            inside = sources[number].starts[edges[0, row] : edges[1, row]]
            starts.append((inside - np.uint64(begins[row])).astype(np.uint32))
            counts[row] = len(inside)
        yield sequences, np.concatenate(starts), counts


def positions(source: TokenSource, length: int, seed: int) -> Iterator[int]:
    """Where in the source's stream its sequences begin: each once, shuffled, epoch after epoch."""
    for epoch in itertools.count():
        for number in shuffled(source.tokens // length, source.corpus, seed, epoch):
            yield int(number) * length


def account(source: TokenSource, used: int, length: int) -> dict[str, Any]:
    """Where every token of a source went, and which documents the cuts go through.

    (sequences_used - sequences_repeated) * length + unused_tokens + tail_tokens = tokens. The documents
    cut are counted over the whole source; `best_fit` tells what that strategy would make of it.
    """
    available = source.tokens // length
    repeated = max(0, used - available)
    lengths = np.diff(source.starts.astype(np.int64), append=source.tokens)
    entry = {
        "documents": source.documents,
        "tokens": source.tokens,
        "sequences_available": available,
        "sequences_used": used,
        "sequences_repeated": repeated,
        "epochs": round(used / available, 6),
        "tail_tokens": source.tokens % length,
        "unused_tokens": max(0, available - used) * length,
        "truncated_documents": cut_by_concatenation(source.starts, source.tokens, length),
        "best_fit": best_fit(lengths, length),
    }
    whole = (used - repeated) * length + entry["unused_tokens"] + entry["tail_tokens"]
    assert whole == source.tokens
    return entry
