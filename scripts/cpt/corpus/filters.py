"""Which documents are worth training on: length and repetition (paper 3.2.1).

The repetition rules are Gopher's (Rae et al. 2021, Table A1), computed as datatrove's
GopherRepetitionFilter does, but for the definitions of line, paragraph and word; docs/filters.md lists
the differences, tests/corpus/test_corpus_datatrove.py proves the list complete.
"""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa

from cpt.config_sections import DocumentFilters, Where
from cpt.corpus.documents import FILTERED_SCHEMA, as_strings, column_of, utf8_of
from cpt.corpus.drops import Drop, DropTable
from cpt.corpus.duplicates import digest
from cpt.corpus.kernels import as_utf8
from cpt.corpus.repetition import count_lines, ngram_characters


class DocumentFilter:
    """All that drops documents of a corpus before they are tokenized.

    Attributes: `columns` (that are read), `rules`, and `table` (what was dropped).
    """

    def __init__(
        self,
        text_column: str,
        where: Where,
        filters: DocumentFilters,
        normalize: Literal["none", "whitespace"],
    ):
        self.text_column, self.normalize = text_column, normalize
        self.where, self.rules = where, Rules(filters)
        self.columns = ["id", "url", text_column, *where]
        self.table = DropTable([*(f"where_{column}" for column in where), *self.rules.names], "bytes")

    def kept(self, batch: dict[str, pa.Array]) -> pa.RecordBatch:
        """The rows of a batch that break no rule, all counted. Takes the columns out of the batch."""
        first_row = self.table.read
        bounds = out_of_bounds(self.where, [batch.pop(key).to_pylist() for key in self.where])
        names, urls, texts = (as_strings(batch.pop(key)) for key in ("id", "url", self.text_column))
        digests = []
        kept, sizes = np.zeros(len(texts), bool), np.empty(len(texts), np.int64)
        for number, text in enumerate(utf8_of(texts)):
            drop = (bounds[number] if bounds else None) or self.rules.check(text)
            sizes[number] = len(text)
            self.table.count(drop.rule if drop else "kept", len(text))
            if drop and self.table.wants(drop.rule):
                name, url, content = (column[number].as_py() for column in (names, urls, texts))
                self.table.example(*drop, name, url, content or "")
            if not drop:
                kept[number] = True
                digests.append(digest(text, self.normalize))
        rows = column_of(np.arange(first_row, first_row + len(texts)), pa.int64())
        taken = column_of(kept, pa.bool_())
        arrays = [column.filter(taken) for column in (rows, names, urls, texts, column_of(sizes, pa.int64()))]
        arrays.append(column_of(digests, pa.binary(16)))
        return pa.RecordBatch.from_arrays(arrays, schema=FILTERED_SCHEMA)


def out_of_bounds(where: Where, values: list[list[float | None]]) -> list[Drop | None]:
    """For each document the first bound of `where` that it breaks, or None; a missing number breaks any.

    `values` are the columns. The value in a Drop is None where there is no number.
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
                known = None if value is None or math.isnan(value) else float(value)
                # Of two bounds a missing number is told the lower.
                over = known is not None and known > maximum
                drop = Drop(name, known, maximum if over or math.isinf(minimum) else minimum)
                break
        drops.append(drop)
    return drops


class Rules:
    """The rules of the config's `filters`; `names` lists them in the order in which they are tried."""

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
        self.top = dict(sorted(repetition.top_ngram_character_share.items()))
        self.duplicate = dict(sorted(repetition.duplicate_ngram_character_share.items()))
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
        counts = (*top.values(), *duplicate.values())
        return _first_over(self.ngram_rules, (count / found.characters for count in counts))


def _first_over(rules: list[tuple[str, float]], shares: Iterable[float]) -> Drop | None:
    for (name, maximum), share in zip(rules, shares, strict=True):
        if share > maximum:
            return Drop(name, share, maximum)
    return None
