"""Drops documents that aren't worth training on, by length, repetition and more (paper 3.2.1).

The repetition rules are Gopher's (Rae et al. 2021, Table A1), as in datatrove's GopherRepetitionFilter
except for the definitions of line, paragraph and word. docs/filter-checks.md lists the differences, and
tests/corpus/test_corpus_datatrove.py proves the list complete.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from cpt.arrays import load_array
from cpt.config_sections import (
    EDU_SCORE,
    LANGUAGE,
    SIMILARITY,
    TEXT_KEYS,
    ColumnBounds,
    DocumentFilters,
    Where,
)
from cpt.corpus.conversations import ConversationRules
from cpt.corpus.documents import FILTERED_SCHEMA, as_strings, column_of, plain, utf8_of
from cpt.corpus.drops import Drop, DropTable
from cpt.corpus.duplicates import digest
from cpt.corpus.kernels import as_utf8
from cpt.corpus.languages import Languages
from cpt.corpus.private import PrivateData
from cpt.corpus.repetition import count_lines, ngram_characters
from cpt.corpus.similarity import Similarity
from cpt.errors import DamagedFileError


class DocumentFilter:
    """Applies all rules that drop a corpus's documents before they are tokenized.

    `numbers` are the columns that `where` compares, in its order. If `where` has these keys, `similarity` is
    the classifier's file, and `scores` (float32 [documents]) are compared as `edu_score`. For
    `conversations`, cpt.corpus.conversations replaces the rules of length and repetition. Attributes:
    `columns` (to read), `rules`, `table` (what was dropped), and `masked` (how many of each kind of
    private data were).
    """

    def __init__(
        self,
        text_column: str,
        where: Where,
        filters: DocumentFilters,
        normalize: Literal["none", "whitespace"],
        numbers: Sequence[str],
        conversations: bool = False,
        similarity: Path | None = None,
        scores: np.ndarray | None = None,
    ):
        self.text_column, self.normalize = text_column, normalize
        self.where = {column: bounds for column, bounds in where.items() if column not in TEXT_KEYS}
        if EDU_SCORE in where:
            self.where[EDU_SCORE] = where[EDU_SCORE]
        self.numbers, self.scores = numbers, scores
        self.probabilities = []  # rules on probabilities, computed from the text
        if LANGUAGE in where:
            languages = Languages(where[LANGUAGE].among)
            self.probabilities.append(TextRule(LANGUAGE, where[LANGUAGE], languages.probability))
        if SIMILARITY in where:
            classifier = Similarity(similarity)
            self.probabilities.append(TextRule(SIMILARITY, where[SIMILARITY], classifier.probability))
        self.private = PrivateData(filters.private.kinds) if filters.private else None
        self.rules = ConversationRules() if conversations else Rules(filters)
        self.columns = ["id", "url", text_column, *numbers]
        dropped, masked = (self.private.dropped, self.private.masked) if self.private else ([], [])
        self.masked = dict.fromkeys(masked, 0)
        first = [*(f"where_{column}" for column in where), *(f"private_{kind}" for kind in dropped)]
        last = [f"masked_{kind}" for kind in masked]
        self.table = DropTable([*first, *self.rules.names, *last], "bytes")

    def kept(self, batch: dict[str, pa.Array]) -> pa.RecordBatch:
        """The rows of a batch that break no rule; counts all rows and empties the batch."""
        first_row = self.table.read
        values = [plain(batch[key]).to_pylist() for key in self.numbers]
        if EDU_SCORE in self.where:
            values.append(self.scores[first_row : first_row + len(batch["id"])].tolist())
        bounds = out_of_bounds(self.where, values)
        names, urls, texts = (as_strings(batch[key]) for key in ("id", "url", self.text_column))
        batch.clear()  # frees the columns that `as_strings` copied
        digests = []
        masked: dict[int, str] = {}
        kept, sizes = np.zeros(len(texts), bool), np.empty(len(texts), np.int64)
        for number, text in enumerate(utf8_of(texts)):
            drop, counts = bounds[number] if bounds else None, {}
            for rule in self.probabilities:
                drop = drop or rule.check(text)
            if not drop and self.private:
                drop, content, counts = self._without_private(text)
                text = as_utf8(content) if counts else text
            drop = drop or self.rules.check(text)
            sizes[number] = len(text)
            self.table.count(drop.rule if drop else "kept", len(text))
            if drop:
                name, url, content = (column[number].as_py() for column in (names, urls, texts))
                self.table.example(*drop, name, url, content or "")
            if not drop:
                kept[number] = True
                digests.append(digest(text, self.normalize))
                if counts:
                    masked[number] = content
                for kind, (count, removed) in counts.items():
                    self.masked[kind] += count
                    self.table.note(f"masked_{kind}", 1, removed)
        if masked:
            contents = [masked.get(number, text) for number, text in enumerate(texts.to_pylist())]
            texts = column_of(contents, pa.large_string())
        rows = column_of(np.arange(first_row, first_row + len(texts)), pa.int64())
        taken = column_of(kept, pa.bool_())
        arrays = [column.filter(taken) for column in (rows, names, urls, texts, column_of(sizes, pa.int64()))]
        arrays.append(column_of(digests, pa.binary(16)))
        return pa.RecordBatch.from_arrays(arrays, schema=FILTERED_SCHEMA)

    def _without_private(self, text: np.ndarray) -> tuple[Drop | None, str, dict[str, tuple[int, int]]]:
        """The Drop for private data (or None), then the text and counts of `PrivateData.mask`."""
        content = bytes(text).decode()
        if reason := self.private.reason(content):
            return Drop(f"private_{reason[0]}", reason[1], 0), content, {}
        return None, *self.private.mask(content)


def load_scores(path: Path, documents: int) -> np.ndarray:
    """A raw shard's scores: float32 [documents]. Raises DamagedFileError if the file doesn't fit."""
    scores = load_array(path)
    if scores.shape != (documents,) or scores.dtype != np.float32:
        raise DamagedFileError(f"{path}: not a score for each of {documents} documents; delete it, run again")
    return scores


class TextRule:
    """Drops texts whose probability is outside the bounds on `name`; without bounds, below 0.5."""

    def __init__(self, name: str, bounds: ColumnBounds, probability: Callable[[np.ndarray], float]):
        self.rule, self.probability = f"where_{name}", probability
        unbounded = bounds.minimum is None and bounds.maximum is None
        self.minimum = 0.5 if unbounded else bounds.minimum or 0.0
        self.maximum = 1.0 if bounds.maximum is None else bounds.maximum

    def check(self, text: np.ndarray) -> Drop | None:
        """A Drop with the text's probability (UTF-8, uint8) if it is too low or too high, else None."""
        probability = self.probability(text)
        if self.minimum <= probability <= self.maximum:
            return None
        low = probability < self.minimum
        return Drop(self.rule, probability, self.minimum if low else self.maximum)


def out_of_bounds(where: Where, values: list[list[float | None]]) -> list[Drop | None]:
    """The first bound of `where` that each document breaks, or None; a missing number breaks any bound.

    `values` are the columns. A Drop's value is None for a missing number.
    """
    limits = [
        (
            f"where_{column}",
            -math.inf if bounds.minimum is None else bounds.minimum,
            math.inf if bounds.maximum is None else bounds.maximum,
        )
        for column, bounds in where.items()
    ]
    drops = []
    for row in zip(*values, strict=True):
        drop = None
        for (name, minimum, maximum), value in zip(limits, row, strict=True):
            if value is None or not minimum <= value <= maximum:
                number = None if value is None or math.isnan(value) else float(value)
                # For a missing number the lower of two bounds is reported.
                over = number is not None and number > maximum
                drop = Drop(name, number, maximum if over or math.isinf(minimum) else minimum)
                break
        drops.append(drop)
    return drops


class Rules:
    """The rules of the config's `filters`; `names` lists them in the order they are tried."""

    def __init__(self, filters: DocumentFilters):
        length, repetition = filters.length, filters.repetition
        self.minimum_lines = length.minimum_lines
        self.short = length.short_line_characters
        self.line_rules = [
            ("short_lines", length.maximum_short_line_share),
            ("duplicate_lines", repetition.duplicate_line_share),
            ("duplicate_paragraphs", repetition.duplicate_paragraph_share),
            ("duplicate_line_characters", repetition.duplicate_line_character_share),
            ("duplicate_paragraph_characters", repetition.duplicate_paragraph_character_share),
        ]
        # A share of 1 is no rule: it would drop very short texts, whose top n-gram's share can exceed 1.
        self.top, self.duplicate = (
            {n: share for n, share in sorted(shares.items()) if share < 1}
            for shares in (repetition.top_ngram_character_share, repetition.duplicate_ngram_character_share)
        )
        self.ngram_rules = [(f"top_{n}_gram", share) for n, share in self.top.items()]
        self.ngram_rules += [(f"duplicate_{n}_gram", share) for n, share in self.duplicate.items()]
        names = [name for name, _ in [*self.line_rules, *self.ngram_rules]]
        self.names = ["empty", "minimum_lines", *names]

    def check(self, text: str | np.ndarray) -> Drop | None:
        """The first rule that a document breaks, or None; `text` may be its UTF-8 (uint8).

        empty: no text, or only white space. minimum_lines: fewer non-blank lines than `minimum_lines`.
        short_lines: share of the non-blank lines that are at most `short_line_characters` letters wide.
        duplicate_*: share of the lines (paragraphs) that equal an earlier one, or their share of all
        characters. top_n_gram, duplicate_n_gram: see `ngram_characters`, as a share of all characters.
        A document is dropped when a share is over its maximum.
        """
        data = as_utf8(text)
        line_counts = count_lines(data, self.short)
        if not line_counts.lines:
            return Drop("empty", 0, 1)
        if line_counts.lines < self.minimum_lines:
            return Drop("minimum_lines", line_counts.lines, self.minimum_lines)
        shares = (
            line_counts.short_lines / line_counts.lines,
            line_counts.duplicate_lines / line_counts.lines,
            line_counts.duplicate_paragraphs / line_counts.paragraphs,
            line_counts.duplicate_line_characters / line_counts.characters,
            line_counts.duplicate_paragraph_characters / line_counts.characters,
        )
        if drop := _first_excess(self.line_rules, shares):
            return drop
        top, duplicate = ngram_characters(data, self.top, self.duplicate)
        counts = (*top.values(), *duplicate.values())
        return _first_excess(self.ngram_rules, (count / line_counts.characters for count in counts))


def _first_excess(rules: list[tuple[str, float]], shares: Iterable[float]) -> Drop | None:
    for (name, maximum), share in zip(rules, shares, strict=True):
        if share > maximum:
            return Drop(name, share, maximum)
    return None
