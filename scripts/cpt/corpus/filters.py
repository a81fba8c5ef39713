"""Which documents are worth training on: length and repetition (paper 3.2.1).

The repetition rules are Gopher's (Rae et al. 2021, Table A1), computed as datatrove's
GopherRepetitionFilter does, but for the definitions of line, paragraph and word; docs/filters.md lists
the differences, tests/corpus/test_corpus_datatrove.py proves the list complete.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from cpt.corpus.lines import count_lines
from cpt.corpus.ngrams import ngram_characters
from cpt.corpus.words import as_utf8


class Drop(NamedTuple):
    """Why a document was dropped: the rule, the document's value (None: it has none), and the bound."""

    rule: str
    value: float | None
    threshold: float


class Rules:
    """The rules of the config's `filters`; `names` lists them in the order in which they are tried."""

    def __init__(self, settings: dict[str, Any]):
        length, repetition = settings["length"], settings["repetition"]
        self.minimum_lines = length["minimum_lines"]
        self.short = length["short_line_characters"]
        self.line_rules = [
            ("short_lines", length["maximum_short_line_share"]),
            ("duplicate_lines", repetition["duplicate_line_share"]),
            ("duplicate_paragraphs", repetition["duplicate_paragraph_share"]),
            ("duplicate_line_characters", repetition["duplicate_line_character_share"]),
            ("duplicate_paragraph_characters", repetition["duplicate_paragraph_character_share"]),
        ]
        self.top = _by_length(repetition["top_ngram_character_share"])
        self.duplicate = _by_length(repetition["duplicate_ngram_character_share"])
        self.ngram_rules = [(f"top_{n}_gram", share) for n, share in self.top.items()]
        self.ngram_rules += [(f"duplicate_{n}_gram", share) for n, share in self.duplicate.items()]
        names = [name for name, _ in [*self.line_rules, *self.ngram_rules]]
        self.names = ["empty", "minimum_lines", *names]

    def check(self, text: str | np.ndarray) -> Drop | None:
        """The first rule that a document breaks, or None; its text may be given as UTF-8 (uint8).

        empty: no text, or only white space. minimum_lines: fewer non-blank lines than `minimum_lines`.
        short_lines: share of the non-blank lines with at most `short_line_characters` characters.
        duplicate_*: share of the lines (paragraphs) that equal an earlier one, and of all characters that
        stand in them. top_n_gram, duplicate_n_gram: see `ngram_characters`, as a share of all characters.
        A document is dropped when a share is over its maximum.
        """
        data = as_utf8(text)
        found = count_lines(data, self.short)
        if not found.lines:
            return Drop("empty", 0, 1)
        if found.lines < self.minimum_lines:
            return Drop("minimum_lines", found.lines, self.minimum_lines)
        shares = (
            found.short_lines / found.lines,
            found.duplicate_lines / found.lines,
            found.duplicate_paragraphs / found.paragraphs,
            found.duplicate_line_characters / found.characters,
            found.duplicate_paragraph_characters / found.characters,
        )
        if drop := _first_over(self.line_rules, shares):
            return drop
        top, duplicate = ngram_characters(data, self.top, self.duplicate)
        shares = (count / found.characters for count in (*top.values(), *duplicate.values()))
        return _first_over(self.ngram_rules, shares)


def _first_over(rules: list[tuple[str, float]], shares: Iterable[float]) -> Drop | None:
    for (name, maximum), share in zip(rules, shares, strict=True):
        if share > maximum:
            return Drop(name, share, maximum)
    return None


def _by_length(shares: dict[Any, float]) -> dict[int, float]:
    """The n-gram thresholds sorted by n; JSON has made strings of the keys."""
    return dict(sorted((int(n), share) for n, share in shares.items()))
