"""Measures how much held-out text is also in training text, by n-grams of words.

Words are those of the contamination check: lower-cased, without punctuation. The split's keys alone identify
held-out documents before tokenization, so that overlapping documents can be dropped from training.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from cpt.config_sections import HeldOut
from cpt.corpus.documents import as_strings, read_batches, utf8_of
from cpt.corpus.kernels import ONE, START, STEP, table_size
from cpt.corpus.split import is_held_out, split_key
from cpt.corpus.words import hash_words_in_parts

NGRAM = 13  # words
PART_WORDS = 2**21  # a longer document is hashed in parts of this many, which bounds memory


class Document(NamedTuple):
    """A document of a shard: its position there, id, address, text (UTF-8), and whether it is held out."""

    position: int
    id: str | None
    url: str | None
    text: np.ndarray
    held_out: bool


def documents_of(path: Path, keep: np.ndarray, split: HeldOut) -> Iterator[Document]:
    """The filtered documents of a file for which `keep` (bool [documents]) is true."""
    position = 0
    for batch in read_batches(path, ["id", "url", "text"]):
        names, urls, texts = (as_strings(batch.pop(key)) for key in ("id", "url", "text"))
        for number, (url, text) in enumerate(zip(utf8_of(urls), utf8_of(texts), strict=True)):
            if keep[position]:
                out, _ = is_held_out(split_key(split.group_by, url, text), split.share)
                yield Document(position, names[number].as_py(), urls[number].as_py(), text, out)
            position += 1


def ngram_hashes(text: np.ndarray) -> np.ndarray:
    """Hashes of the n-grams of a text (UTF-8), in order: uint64; empty for fewer than `NGRAM` words."""
    lower = np.frombuffer(bytes(text).decode().lower().encode(), np.uint8)
    parts = [_rolled(words, NGRAM) for words, _ in hash_words_in_parts(lower, PART_WORDS, punctuation=False)]
    return np.concatenate(parts)


@njit(cache=True)
def _rolled(words, n):
    """A polynomial hash of each n consecutive words; never 0, which marks a free slot of a table."""
    count = max(0, len(words) - n + 1)
    hashes = np.empty(count, np.uint64)
    highest = np.uint64(1)
    for _ in range(n - 1):
        highest *= START
    value = np.uint64(0)
    for place in range(len(words)):
        if place >= n:
            value -= words[place - n] * highest
        value = value * START + words[place]
        if place >= n - 1:
            hashes[place - n + 1] = max(value, ONE)
    return hashes


class HeldOutText:
    """The n-grams of held-out documents, to compare training documents with: `add` all, `index`, `compare`.

    Attributes: `names` (corpus, id and address of each document), `sizes` (its number of distinct n-grams),
    `closest` (the largest share of its n-grams in one of the training documents compared) and `closest_id`
    (the id of that document).
    """

    def __init__(self) -> None:
        self.names: list[tuple[str, str | None, str | None]] = []
        self.parts: list[np.ndarray] = []

    def add(self, corpus: str, document: Document) -> None:
        """Add a held-out document."""
        self.names.append((corpus, document.id, document.url))
        self.parts.append(np.unique(ngram_hashes(document.text)))

    def index(self) -> None:
        """Build the hash table after the last `add`. Takes about 40 bytes of memory per n-gram."""
        self.sizes = np.array([len(part) for part in self.parts], np.int64)
        owners = np.repeat(np.arange(len(self.parts)), self.sizes)
        hashes = np.concatenate([np.empty(0, np.uint64), *self.parts])
        self.parts = []
        self.different, numbers = np.unique(hashes, return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        self.owners = owners[order]  # documents of each n-gram, one n-gram after the other
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=len(self.different)))])
        self.slots = np.zeros(int(table_size(np.uint64(len(self.different)))), np.uint32)
        _fill(self.slots, self.different)
        self.seen = np.zeros(len(self.different), bool)
        self.closest = np.zeros(len(self.names))
        self.closest_id: list[str | None] = [None] * len(self.names)

    def compare(self, document: Document, limit: float | None = None) -> bool:
        """Whether a training document has at most the share `limit` of any held-out document's n-grams.

        `shared` and `closest` count only such documents: the others are dropped from training.
        """
        numbers = np.unique(_look_up(self.slots, self.different, ngram_hashes(document.text)))
        if not len(numbers):
            return True
        owners = np.concatenate([self.owners[self.starts[n] : self.starts[n + 1]] for n in numbers])
        who, counts = np.unique(owners, return_counts=True)
        shares = counts / self.sizes[who]
        if limit is not None and shares.max() > limit:
            return False
        self.seen[numbers] = True
        for one in np.flatnonzero(shares > self.closest[who]).tolist():
            self.closest[who[one]], self.closest_id[who[one]] = shares[one], document.id
        return True

    def counts(self, corpora: Iterable[str]) -> dict[str, dict[str, int]]:
        """For each corpus the numbers of held-out documents, of their n-grams, and of `shared` n-grams."""
        shared, owners = self.shared(), np.array([corpus for corpus, *_ in self.names])
        columns = {"documents": np.ones_like(shared), "ngrams": self.sizes, "shared": shared}
        return {
            corpus: {name: int(values[owners == corpus].sum()) for name, values in columns.items()}
            for corpus in corpora
        }

    def shared(self) -> np.ndarray:
        """The number of each document's n-grams that any training document has: int64 [documents]."""
        mask = np.repeat(self.seen, np.diff(self.starts))
        return np.bincount(self.owners[mask], minlength=len(self.names))


@njit(cache=True)
def _slot(value, size):
    return (value * STEP) >> np.uint64(32) & np.uint64(size - 1)


@njit(cache=True)
def _fill(slots, different):
    """Insert each hash's number plus one into a hash table (0: free; a power of two long)."""
    for number in range(len(different)):
        slot = _slot(different[number], len(slots))
        while slots[slot]:
            slot = slot + ONE & np.uint64(len(slots) - 1)
        slots[slot] = number + 1


@njit(cache=True)
def _look_up(slots, different, hashes):
    """The numbers (int64) of those hashes that are in the table."""
    numbers = np.empty(len(hashes), np.int64)
    count = 0
    for value in hashes:
        slot = _slot(value, len(slots))
        while slots[slot]:
            if different[slots[slot] - 1] == value:
                numbers[count] = slots[slot] - 1
                count += 1
                break
            slot = slot + ONE & np.uint64(len(slots) - 1)
    return numbers[:count]


def table_of(found: HeldOutText) -> str:
    """A CSV of the held-out documents, the largest share in training text first."""
    shared = found.shared()
    shares = shared / np.maximum(found.sizes, 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["corpus", "id", "url", "ngrams", "shared", "share", "closest", "closest_share"])
    for number in np.lexsort((np.arange(len(shares)), -found.closest, -shares)).tolist():
        corpus, name, url = found.names[number]
        row = [corpus, name, url, found.sizes[number], shared[number], f"{shares[number]:.4f}"]
        writer.writerow([*row, found.closest_id[number], f"{found.closest[number]:.4f}"])
    return text.getvalue()
