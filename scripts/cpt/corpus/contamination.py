"""Overlap of training documents with evaluation items, by n-grams of words.

Words are lower-cased and punctuation is dropped, as in GPT-3's check (Brown et al. 2020, appendix C)
and lm-eval's; both use 13-grams. An item shorter than n words matches as a whole, if it has at least
`SHORTEST_ITEM` words: shorter strings occur by chance.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpt.corpus.documents import open_parquet, read_rows
from cpt.corpus.words import extend_ngrams, hash_words, words_of
from cpt.errors import UserError

SHORTEST_ITEM = 8  # words


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
        missing = set(columns) - set(open_parquet(path).schema_arrow.names)
        if missing:
            raise UserError(f"{path}: lacks the column(s) {', '.join(sorted(missing))}; make it again")
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
        words, _ = hash_words(text, punctuation=False)
        first: dict[int, Hit] = {}
        strings: list[str] = []
        for length, hashes in _ngrams(words, set(self.index)):
            known, numbers, places = self.index[length]
            where = np.searchsorted(known, hashes)
            present = known[np.minimum(where, len(known) - 1)] == hashes
            for position in np.flatnonzero(present):
                strings = strings or words_of(text, punctuation=False)
                ngram = strings[position : position + length]
                entry = where[position]
                while entry < len(known) and known[entry] == hashes[position]:
                    number, place = int(numbers[entry]), places[entry]
                    if number not in first:
                        item = words_of(self.texts[number], punctuation=False)
                        if item[place : place + length] == ngram:
                            first[number] = Hit(number, " ".join(ngram))
                    entry += 1
        return [first[number] for number in sorted(first)]


def _ngrams(words: np.ndarray, lengths: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Hashes of the n-grams of each of `lengths`, ascending; each n is made from the one before."""
    hashes = np.zeros(len(words), np.uint64)
    for n in range(1, max(lengths, default=0) + 1):
        count = len(words) - n + 1
        if count <= 0:
            return
        hashes = extend_ngrams(hashes[:count], words[n - 1 :])
        if n in lengths:
            yield n, hashes


def _index(items: list[np.ndarray], n: int) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For n, and for each length of shorter items, the hashes to look for.

    Values: sorted hashes (uint64), the numbers of their items and the places in them (uint32).
    """
    counts = np.array([len(words) for words in items])
    owners = np.repeat(np.arange(len(items)), counts)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    index = {}
    for length, hashes in _ngrams(np.concatenate(items), {n, *range(SHORTEST_ITEM, n)}):
        first, last = owners[: len(hashes)], owners[length - 1 :]
        used = np.flatnonzero((first == last) & ((length == n) | (counts[first] == length)))
        if len(used):
            order = used[np.argsort(hashes[used], kind="stable")]
            index[length] = hashes[order], owners[order].astype(np.uint32), places[order].astype(np.uint32)
    return index
