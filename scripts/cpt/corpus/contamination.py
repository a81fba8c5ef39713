"""Overlap of training documents with evaluation items, by n-grams of words.

Words are lower-cased and punctuation is dropped, as in GPT-3's check (Brown et al. 2020, appendix C)
and lm-eval's; both use 13-grams. An item shorter than n words matches as a whole, if it has at least
`SHORTEST_ITEM` words: shorter strings occur by chance.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from cpt.corpus.documents import open_parquet, read_rows
from cpt.corpus.words import hash_words, hash_words_in_parts, words_of
from cpt.errors import UserError

SHORTEST_ITEM = 8  # words
PART_WORDS = 2**21  # of a long document, hashed at once, so that memory is bounded
FILTER_BITS = 32  # of a Bloom filter, for each n-gram; so it lets through one unknown n-gram in 2,000
# Odd multipliers: the increment of splitmix64 (Steele et al. 2014) and a constant of xxHash's.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xC2B2AE3D27D4EB4F)


class Hit(NamedTuple):
    """The first n-gram of a document that an item holds as well; `item` is a number in `Items`."""

    item: int
    ngram: str


class Items:
    """The evaluation items, with a sorted index of the hashes of their n-grams.

    `n` is the n-gram's length in words. Reads `path`, a parquet file with the columns task (string),
    item (int64) and text (string). Raises UserError if a column is missing or there are no items.
    """

    def __init__(self, path: Path, n: int):
        columns = ["task", "item", "text"]
        open_parquet(path, columns)
        rows = list(read_rows(path, columns))
        if not rows:
            raise UserError(f"{path}: holds no evaluation items; make it again")
        self.names = [(task.decode(), int(item)) for task, item, _ in rows]
        self.texts = [(text or b"").decode(errors="replace").lower() for _, _, text in rows]
        hashed = [hash_words(text, punctuation=False)[0] for text in self.texts]
        self.index = _index(hashed, n)

    def hits(self, text: str) -> list[Hit]:
        """The first hit of each item that shares an n-gram with `text`, ordered by item.

        Equal hashes are confirmed by comparing the words.
        """
        text = text.lower()
        matches = []  # (position in the text, length, item, place in the item)
        begin, words = 0, np.empty(0, np.uint64)
        for part, _ in hash_words_in_parts(text, PART_WORDS, punctuation=False):
            before = words[max(0, len(words) + 1 - max(self.index, default=1)) :]  # n-grams may begin there
            begin += len(words) - len(before)
            words = np.concatenate([before, part])
            prefixes = _hash_prefixes(words)
            for length, (known, numbers, places, bloom) in self.index.items():
                positions = _candidates(prefixes, length, bloom)
                for position, value in zip(positions, _hash_ngrams(prefixes, length, positions), strict=True):
                    entry = np.searchsorted(known, value)
                    while entry < len(known) and known[entry] == value:
                        match = (begin + int(position), length, int(numbers[entry]), int(places[entry]))
                        matches.append(match)
                        entry += 1
        return self._confirmed(text, matches)

    def _confirmed(self, text: str, matches: list[tuple[int, int, int, int]]) -> list[Hit]:
        if not matches:
            return []
        needed = {index for position, length, *_ in matches for index in range(position, position + length)}
        # Not a list of all words: those of a huge text take gigabytes.
        found = enumerate(re.finditer(r"\w+", text))
        strings = {index: match[0] for index, match in found if index in needed}
        first: dict[int, Hit] = {}
        for position, length, number, place in matches:
            if number not in first:
                ngram = [strings[index] for index in range(position, position + length)]
                item = words_of(self.texts[number], punctuation=False)
                if item[place : place + length] == ngram:
                    first[number] = Hit(number, " ".join(ngram))
        return [first[number] for number in sorted(first)]


@njit(cache=True)
def _hash_prefixes(words):
    """Hashes of the first 0, 1, ... words, polynomials in `_BASE`: uint64 [words + 1]."""
    prefixes = np.zeros(len(words) + 1, np.uint64)
    for position in range(len(words)):
        prefixes[position + 1] = prefixes[position] * _BASE + words[position]
    return prefixes


@njit(cache=True)
def _hash_ngrams(prefixes, n, positions):
    """Hashes of the n-grams of words at some positions: uint64 [positions]."""
    power = _BASE ** np.uint64(n)
    hashes = np.empty(len(positions), np.uint64)
    for number, position in enumerate(positions):
        hashes[number] = prefixes[position + n] - prefixes[position] * power
    return hashes


def _index(items: list[np.ndarray], n: int) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For n, and for each length of shorter items, the hashes to look for.

    Values: sorted hashes (uint64), the numbers of their items and the places in them (uint32), and a
    Bloom filter of the hashes.
    """
    counts = np.array([len(words) for words in items])
    owners = np.repeat(np.arange(len(items)), counts)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = {}
    prefixes = _hash_prefixes(np.concatenate(items))
    for length in sorted({n, *range(SHORTEST_ITEM, n)}):
        hashes = _hash_ngrams(prefixes, length, np.arange(len(owners) - length + 1))
        first, last = owners[: len(hashes)], owners[length - 1 :]
        used = np.flatnonzero((first == last) & ((length == n) | (counts[first] == length)))
        if len(used):
            order = used[np.argsort(hashes[used], kind="stable")]
            index[length] = (
                hashes[order],
                owners[order].astype(np.uint32),
                places[order].astype(np.uint32),
                _bloom_filter(hashes[order]),
            )
    return index


def _bloom_filter(hashes: np.ndarray) -> np.ndarray:
    """A filter that lets all of `hashes` through, and few others: uint64 [2**k].

    An entry sets three bits of one word (a blocked Bloom filter: a look-up reads one cache line).
    """
    bits = max(4, (len(hashes) * FILTER_BITS // 64).bit_length())
    bloom = np.zeros(1 << bits, np.uint64)
    _fill(bloom, hashes)
    return bloom


@njit(cache=True)
def _place(value, size):
    """Which of `size` words of a Bloom filter an entry is in, and its bits there."""
    mixed = (value ^ (value >> np.uint64(32))) * _STEP
    mask = np.uint64(0)
    for _ in range(3):
        mask |= np.uint64(1) << (mixed & np.uint64(63))
        mixed >>= np.uint64(6)
    return np.int64(mixed >> np.uint64(6)) & (size - 1), mask


@njit(cache=True)
def _fill(bloom, hashes):
    for value in hashes:
        place, mask = _place(value, len(bloom))
        bloom[place] |= mask


@njit(cache=True)
def _candidates(prefixes, n, bloom):
    """Positions (int64) of the n-grams that the Bloom filter lets through."""
    power = _BASE ** np.uint64(n)
    positions = np.empty(len(prefixes), np.int64)  # memory that isn't written to is never taken
    count = 0
    for position in range(len(prefixes) - n):
        place, mask = _place(prefixes[position + n] - prefixes[position] * power, len(bloom))
        positions[count] = position
        count += (bloom[place] & mask) == mask
    return positions[:count]
