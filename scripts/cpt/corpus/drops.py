"""What a stage dropped and why: a table of counts, and examples to read."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import DamagedFileError
from cpt.files import write_text

EXAMPLES = 10  # per rule
EXAMPLE_CHARACTERS = 2_000


class Drop(NamedTuple):
    """Why a document was dropped: the rule, the document's value (None: it has none), and the bound."""

    rule: str
    value: float | None
    threshold: float


class DropTable:
    """Counts documents and other quantities (bytes, tokens) per rule, and keeps examples.

    Every document is counted once under `read` and once under a rule or under `kept`.
    """

    def __init__(self, rules: Sequence[str], *quantities: str):
        self.columns = ("documents", *quantities)
        self.counts = {rule: [0] * len(self.columns) for rule in ("read", *rules, "kept")}
        self.examples: dict[str, list[dict]] = {rule: [] for rule in rules}

    @property
    def read(self) -> int:
        """Documents counted so far."""
        return self.counts["read"][0]

    def count(self, rule: str, *amounts: int) -> None:
        """Count a document, with its amount of each quantity, under `rule` (or `kept`) and under `read`."""
        for name in ("read", rule):
            counts = self.counts[name]
            for column, amount in enumerate((1, *amounts)):
                counts[column] += amount

    def wants(self, rule: str) -> bool:
        """Whether there is room for one more example of a rule."""
        return len(self.examples[rule]) < EXAMPLES

    def example(
        self, rule: str, value: float | None, threshold: float, name: str | None, url: str | None, text: str
    ) -> None:
        """Keep the document as an example, unless the rule has enough."""
        if self.wants(rule):
            self.examples[rule].append(
                {
                    "rule": rule,
                    "value": value,
                    "threshold": threshold,
                    "id": name,
                    "url": url,
                    "text": text[:EXAMPLE_CHARACTERS],
                }
            )

    def write(self, table: Path, examples: Path) -> None:
        """Write the counts as CSV and the examples as JSON lines."""
        lines = [",".join(("rule", *self.columns))]
        lines += [",".join((rule, *map(str, counts))) for rule, counts in self.counts.items()]
        write_text(table, "\n".join(lines) + "\n")
        kept = [json.dumps(entry, ensure_ascii=False) for rule in self.examples.values() for entry in rule]
        write_text(examples, "".join(f"{line}\n" for line in kept))


def read_table(path: Path, names: int) -> list[list]:
    """The rows of a table below its header: cells of text, so many as `names` says, then whole numbers.

    Raises DamagedFileError if the table isn't complete.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError
        return [[*row[:names], *map(int, row[names:])] for row in rows]
    except (ValueError, csv.Error):
        raise DamagedFileError(f"{path}: not a complete table; delete it and run again") from None


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The examples that a shard kept. Raises DamagedFileError if a line isn't JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except ValueError as error:
        raise DamagedFileError(f"{path}: not complete JSON ({error}); delete it and run again") from None


def read_tables(paths: list[Path]) -> dict[str, list[int]]:
    """The drop tables of several shards, added up: rule: [documents, bytes (, tokens)].

    Raises DamagedFileError if one isn't complete.
    """
    sums: dict[str, list[int]] = {}
    for path in paths:
        rows = read_table(path, 1)
        if rows[-1][0] != "kept":
            raise DamagedFileError(f"{path}: ends before its last row, kept; delete it and run again")
        for rule, *counts in rows:
            before = sums.get(rule, [0] * len(counts))
            sums[rule] = [had + count for had, count in zip(before, counts, strict=True)]
    return sums
