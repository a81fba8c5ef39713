"""A shard's documents to tokens: those that break a rule of token quality are dropped, some are held out."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from cpt.config_sections import HeldOut, TokenQualityFilter
from cpt.corpus.documents import RowWriter, as_strings, column_of, read_batches, utf8_of
from cpt.corpus.drops import Drop, DropTable
from cpt.corpus.quality import Quality, QualityHistogram, quality_of
from cpt.corpus.split import is_held_out
from cpt.corpus.tokens import ModelTokenizer

# The rules in the order in which they are tried, and the bound of each: a key of `filters.token_quality`.
RULES = {
    "minimum_bytes_per_token": "minimum_bytes_per_token",
    "maximum_bytes_per_token": "maximum_bytes_per_token",
    "unknown": "maximum_unknown_share",
    "distinct": "minimum_distinct_share",
    "longest_run": "maximum_run_tokens",
}
Columns = tuple[pa.Array, pa.Array, pa.Array]  # ids, URLs and texts (large strings)


def kept_batches(path: Path, keep: np.ndarray) -> Iterator[Columns]:
    """Ids, URLs and texts of the filtered documents of a file that `keep` (bool [documents]) names."""
    begin = 0
    for batch in read_batches(path, ["id", "url", "text"]):
        columns = [as_strings(batch.pop(key)) for key in ("id", "url", "text")]
        mine = keep[begin : begin + len(columns[0])]
        begin += len(mine)
        chosen = column_of(mine, pa.bool_())
        yield tuple(column if mine.all() else column.filter(chosen) for column in columns)


def kept_texts(path: Path, keep: np.ndarray) -> Iterator[str]:
    """The texts of `kept_batches`, as strings."""
    return (text.as_py() for _, _, texts in kept_batches(path, keep) for text in texts)


class Tokenization:
    """Writes the tokens of documents, with one EOS after each, and sets the held-out ones aside.

    Attributes: `table` and `histogram` (what was dropped, and the measures of all), `ends` (of the documents
    written, in tokens), `tokens` (written), `digest` (SHA-256 of them).
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        thresholds: TokenQualityFilter,
        split: HeldOut,
        output: BinaryIO,
        aside: RowWriter,
    ):
        self.tokenizer, self.thresholds, self.split = tokenizer, thresholds, split
        self.output, self.aside = output, aside
        self.table, self.histogram = DropTable([*RULES, "held_out"], "bytes", "tokens"), QualityHistogram()
        self.ends: list[int] = []
        self.tokens = 0
        self.digest = hashlib.sha256()
        self.eos = np.array([tokenizer.eos_token_id], tokenizer.dtype)

    def add(self, names: pa.Array, urls: pa.Array, texts: pa.Array) -> Iterator[int]:
        """Write a batch of documents; yields how many are done each time that some are."""
        contents, keys = list(utf8_of(texts)), list(utf8_of(urls))
        first = 0  # document of those that are encoded together
        for ids, inside in self.tokenizer.encode_batches(contents):
            sizes = np.array([len(text) for text in contents[first : first + len(inside)]])
            found = quality_of(ids, inside, sizes, self.tokenizer.unknown_id)
            self.histogram.add(found)
            kept = []
            parts = zip(
                check_tokens(found, self.thresholds), sizes.tolist(), np.split(ids, inside[:-1]), strict=True
            )
            for number, (drop, size, mine) in enumerate(parts, start=first):
                by_url = self.split.group_by == "url" and len(keys[number])
                out, order = is_held_out(keys[number] if by_url else contents[number], self.split.share)
                rule = drop.rule if drop else "held_out" if out else "kept"
                self.table.count(rule, size, len(mine) + 1)
                if rule == "kept":
                    kept += (mine, self.eos)
                    self.tokens += len(mine) + 1
                    self.ends.append(self.tokens)
                elif not drop or self.table.wants(rule):
                    document = (column[number].as_py() for column in (names, urls, texts))
                    if drop:
                        value = drop.value if math.isfinite(drop.value) else None
                        self.table.example(rule, value, drop.threshold, *document)
                    else:
                        self.aside.add(order, *document)
            if kept:
                block = np.concatenate(kept)
                self.output.write(block)
                self.digest.update(block)
            first += len(inside)
            yield len(inside)


def check_tokens(found: Quality, thresholds: TokenQualityFilter) -> list[Drop | None]:
    """The first token-level rule that each document breaks, or None (paper 3.2.3).

    Rules in order: bytes per token under the minimum; over the maximum (so also a text of which no token is
    left); share of unknown tokens; distinct share; longest run of one token.
    """
    values = (found.bytes_per_token, *found)
    bounds = [getattr(thresholds, key) for key in RULES.values()]
    broken = np.array(
        [
            measure < bound if key.startswith("minimum") else measure > bound
            for key, measure, bound in zip(RULES.values(), values, bounds, strict=True)
        ]
    )
    drops: list[Drop | None] = [None] * broken.shape[1]
    names = list(RULES)
    for document in np.flatnonzero(broken.any(axis=0)).tolist():
        rule = int(broken[:, document].argmax())
        drops[document] = Drop(names[rule], values[rule][document].item(), bounds[rule])
    return drops
