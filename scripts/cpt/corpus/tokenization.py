"""Tokenizes a shard's documents, drops those of low token quality, and holds some out."""

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
from cpt.corpus.split import is_held_out, split_key
from cpt.corpus.tokens import ModelTokenizer
from cpt.corpus.writing import MinimumBytes
from cpt.errors import UserError

# The rules in the order they are tried, and the key of each one's bound in `filters.token_quality`.
RULES = {
    "minimum_bytes_per_token": "minimum_bytes_per_token",
    "maximum_bytes_per_token": "maximum_bytes_per_token",
    "unknown": "maximum_unknown_share",
    "distinct": "minimum_distinct_share",
    "longest_run": "maximum_run_tokens",
}
FEW = 20  # documents of a file; a rule may drop all of fewer
Columns = tuple[pa.Array, pa.Array, pa.Array]  # ids, URLs and texts (large strings)


def kept_batches(path: Path, keep: np.ndarray) -> Iterator[Columns]:
    """Ids, URLs and texts of a file's filtered documents for which `keep` (bool [documents]) is true."""
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
    """Writes the tokens of documents, with one EOS after each, and sets held-out documents aside.

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
        self.minimum = MinimumBytes(thresholds.minimum_bytes_per_token, tokenizer.count)
        self.table, self.histogram = DropTable([*RULES, "held_out"], "bytes", "tokens"), QualityHistogram()
        self.histogram.judged = self.minimum.documents
        self.ends: list[int] = []
        self.tokens = 0
        self.digest = hashlib.sha256()
        bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.bos = np.array(bos, tokenizer.dtype)
        self.eos = np.array([tokenizer.eos_token_id], tokenizer.dtype)

    def add(self, names: pa.Array, urls: pa.Array, texts: pa.Array) -> Iterator[int]:
        """Write a batch of documents, group by group; yields the number of documents in each group done."""
        contents, keys = list(utf8_of(texts)), list(utf8_of(urls))
        first = 0  # index of the first document encoded together
        for ids, inside in self.tokenizer.encode_batches(contents):
            sizes = np.array([len(text) for text in contents[first : first + len(inside)]])
            quality = quality_of(ids, inside, sizes, self.tokenizer.unknown_id)
            self.histogram.add(quality)
            minimums = self.minimum.of(quality.bytes_per_token, contents[first : first + len(inside)])
            drops = check_tokens(quality, self.thresholds, minimums)
            kept = []
            parts = zip(drops, sizes.tolist(), np.split(ids, inside[:-1]), strict=True)
            for number, (drop, size, mine) in enumerate(parts, start=first):
                key = split_key(self.split.group_by, keys[number], contents[number])
                out, order = is_held_out(key, self.split.share)
                rule = drop.rule if drop else "held_out" if out else "kept"
                tokens = len(self.bos) + len(mine) + 1
                self.table.count(rule, size, tokens)
                if rule == "kept":
                    kept += (self.bos, mine, self.eos)
                    self.tokens += tokens
                    self.ends.append(self.tokens)
                else:
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

    def require_some(self, path: Path) -> None:
        """Raise UserError, naming the key, if one rule drops all documents of a file with `FEW` or more."""
        for rule, key in RULES.items():
            count = self.table.counts[rule][0]
            if count == self.table.read >= FEW:
                first = self.table.examples[rule][0]
                raise UserError(
                    f"{path}: filters.token_quality.{key} drops all of its {count:,} documents, such as "
                    f"{first['id']} ({first['value']}, threshold {first['threshold']}); change it, or look "
                    "whether the model's tokenizer suits this text"
                )


def check_tokens(found: Quality, thresholds: TokenQualityFilter, minimums: np.ndarray) -> list[Drop | None]:
    """The first token-level rule that each document breaks, or None (paper 3.2.3).

    Rules in order: bytes per token under the document's minimum (`minimums`, float64 [documents]) or over the
    maximum (so also a text without tokens); share of unknown tokens; distinct share; longest run of a token.
    In scripts unknown to the tokenizer a token is little more than a byte, so any text has few distinct ones:
    bytes per token under the config's minimum lower the least distinct share in proportion.
    """
    values = (found.bytes_per_token, *found)
    limits = {key: getattr(thresholds, key) for key in RULES.values()}
    minimum = limits["minimum_bytes_per_token"]
    shorter = np.minimum(1.0, found.bytes_per_token / minimum) if minimum else 1.0
    limits["minimum_bytes_per_token"] = minimums
    limits["minimum_distinct_share"] = limits["minimum_distinct_share"] * shorter
    bounds = [np.broadcast_to(bound, len(minimums)) for bound in limits.values()]
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
        drops[document] = Drop(names[rule], values[rule][document].item(), bounds[rule][document].item())
    return drops
