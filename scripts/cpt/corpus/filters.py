"""Which documents are worth training on: length and repetition (paper 3.2.1).

The repetition rules are Gopher's (Rae et al. 2021, Table A1), computed as datatrove's
GopherRepetitionFilter does, but for two definitions: blank lines never count as lines, and words are
those of `cpt.corpus.words`. Lines and paragraphs are compared after stripping white space at both ends.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpt.corpus.words import extend_ngrams, hash_ngrams, hash_words


class Drop(NamedTuple):
    """Why a document was dropped: the rule, the document's value, and the bound that it broke."""

    rule: str
    value: float
    threshold: float


def rule_names(settings: dict[str, Any]) -> list[str]:
    """All rules in the order in which they are tried."""
    repetition = settings["repetition"]
    return [
        *("empty", "minimum_lines", "short_lines", "duplicate_lines", "duplicate_paragraphs"),
        *("duplicate_line_characters", "duplicate_paragraph_characters"),
        *(f"top_{n}_gram" for n, _ in by_length(repetition["top_ngram_character_share"])),
        *(f"duplicate_{n}_gram" for n, _ in by_length(repetition["duplicate_ngram_character_share"])),
    ]


def by_length(shares: dict[Any, float]) -> list[tuple[int, float]]:
    """The n-gram thresholds sorted by n; JSON has made strings of the keys."""
    return sorted((int(n), share) for n, share in shares.items())


def lines_of(text: str) -> list[str]:
    """The lines that hold more than white space, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
    """What blank lines separate, stripped."""
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip())]


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts equal an earlier one, and how many characters these have."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        seen.add(part)
    return count, characters


class NGrams:
    """The n-grams of one document that occur more than once.

    An n-gram can only occur twice where its first n - 1 words do, so each n looks only at the positions
    that the shorter one left.
    """

    def __init__(self, text: str):
        self.words, lengths = hash_words(text)
        self.ends = np.concatenate([[0], np.cumsum(lengths)])  # of words, white space not counted
        self.n = 0
        self.positions = np.empty(0, np.int64)
        self.hashes = np.empty(0, np.uint64)

    def _advance(self, n: int) -> None:
        """Make `positions` (ascending) and `hashes` those of the n-grams that occur more than once."""
        if not 0 < self.n <= n:
            self.n, self.hashes = n, hash_ngrams(self.words, n)
            self.positions = np.arange(len(self.hashes))
            self._keep_repeated()
        while self.n < n:
            inside = self.positions + self.n < len(self.words)
            self.positions = self.positions[inside]
            self.hashes = extend_ngrams(self.hashes[inside], self.words[self.positions + self.n])
            self.n += 1
            self._keep_repeated()

    def _keep_repeated(self) -> None:
        ordered = np.sort(self.hashes)
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(repeated):
            where = np.searchsorted(repeated, self.hashes)
            found = repeated[np.minimum(where, len(repeated) - 1)] == self.hashes
        else:
            found = np.zeros(len(self.hashes), bool)
        self.positions, self.hashes = self.positions[found], self.hashes[found]

    def top_characters(self, n: int) -> int:
        """Length of the most frequent n-gram, its words joined by one space, times its occurrences.

        Among equally frequent ones the first in the text counts. As in datatrove, an n-gram that occurs
        once counts as well, so texts of very few words have a high share.
        """
        if len(self.words) < n:
            return 0
        self._advance(n)
        position, occurrences = 0, 1
        if len(self.hashes):
            _, first, counts = np.unique(self.hashes, return_index=True, return_counts=True)
            best = np.lexsort((first, -counts))[0]
            position, occurrences = self.positions[first[best]], int(counts[best])
        return int(self.ends[position + n] - self.ends[position] + n - 1) * occurrences

    def duplicate_characters(self, n: int) -> int:
        """Characters, white space not counted, of the n-grams that occurred before.

        Read from the left: an n-gram met before counts and is jumped over; any other is remembered, and
        reading goes on at the next word.
        """
        self._advance(n)
        seen: set[int] = set()
        characters = resume = 0
        for position, value in zip(self.positions.tolist(), self.hashes.tolist(), strict=True):
            if position < resume:
                continue
            if value in seen:
                characters += int(self.ends[position + n] - self.ends[position])
                resume = position + n
            seen.add(value)
        return characters


def _length_values(text: str, length: dict[str, Any]) -> Iterator[Drop]:
    lines = lines_of(text)
    short = sum(len(line) <= length["short_line_characters"] for line in lines)
    yield Drop("short_lines", short / len(lines), length["maximum_short_line_share"])


def _repetition_values(text: str, repetition: dict[str, Any]) -> Iterator[Drop]:
    parts = {"line": lines_of(text), "paragraph": paragraphs_of(text)}
    found = {kind: duplicates(parts[kind]) for kind in parts}
    for kind, (count, _) in found.items():
        yield Drop(f"duplicate_{kind}s", count / len(parts[kind]), repetition[f"duplicate_{kind}_share"])
    size = len(text)
    for kind, (_, characters) in found.items():
        threshold = repetition[f"duplicate_{kind}_character_share"]
        yield Drop(f"duplicate_{kind}_characters", characters / size, threshold)
    ngrams = NGrams(text)
    for n, threshold in by_length(repetition["top_ngram_character_share"]):
        yield Drop(f"top_{n}_gram", ngrams.top_characters(n) / size, threshold)
    for n, threshold in by_length(repetition["duplicate_ngram_character_share"]):
        yield Drop(f"duplicate_{n}_gram", ngrams.duplicate_characters(n) / size, threshold)


def check(text: str | None, settings: dict[str, Any]) -> Drop | None:
    """The first rule that a document breaks, or None; `settings` are the config's `filters`.

    empty: no text, or only white space. minimum_lines: fewer non-blank lines than `minimum_lines`.
    short_lines: share of the non-blank lines with at most `short_line_characters` characters.
    duplicate_*: share of the lines (paragraphs) that equal an earlier one, and of all characters that
    stand in them. top_n_gram, duplicate_n_gram: see `NGrams`, as a share of all characters. A document
    is dropped when a share is over its maximum.
    """
    if text is None or not text.strip():
        return Drop("empty", 0, 1)
    lines = len(lines_of(text))
    minimum = settings["length"]["minimum_lines"]
    if lines < minimum:
        return Drop("minimum_lines", lines, minimum)
    for values in (
        _length_values(text, settings["length"]),
        _repetition_values(text, settings["repetition"]),
    ):
        for drop in values:
            if drop.value > drop.threshold:
                return drop
    return None
