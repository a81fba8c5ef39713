"""What the rules dropped and why: a stage's table of counts and its examples, and the report on both."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import DamagedFileError
from cpt.files import read_json, write_text

EXAMPLES = 10  # per rule
EXAMPLE_CHARACTERS = 2_000
SHOWN_CHARACTERS = 200  # of each example, in the report


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
        """Keep the document as an example of a rule that `wants` one."""
        entry = {"rule": rule, "value": value, "threshold": threshold, "id": name, "url": url}
        self.examples[rule].append({**entry, "text": text[:EXAMPLE_CHARACTERS]})

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


def sections_of(
    corpus: str,
    drops: list[Path],
    examples: list[Path],
    contamination: list[Path],
    token_drops: list[Path],
    token_examples: list[Path],
) -> Iterator[str]:
    """The report on one corpus, in the order of the stages: a section for each rule that dropped something.

    Each list has a file per shard; see the stage drop_report. The examples of a rule are the first `EXAMPLES`
    of those that the shards kept.
    """
    filtered = read_tables(drops)
    read = filtered["read"][0]
    yield f"## {corpus}: {read:,} documents read\n"
    yield from _rules(filtered, examples, read)
    yield from _contamination([read_json(path) for path in contamination], read)
    yield from _rules(read_tables(token_drops), token_examples, read)


def _rules(table: dict[str, list[int]], examples: list[Path], read: int) -> Iterator[str]:
    """A section for each rule of a stage's table."""
    shown: dict[str, list[str]] = {}
    for path in examples:
        for entry in read_examples(path):
            shown.setdefault(entry["rule"], []).append(_example(entry))
    for rule, (documents, *_) in table.items():
        if documents and rule not in ("read", "kept", "held_out"):
            yield f"### `{rule}`: {_share(documents, read)}\n"
            yield from shown.get(rule, [])[:EXAMPLES]


def _contamination(reports: list[dict[str, Any]], read: int) -> Iterator[str]:
    """The first documents that share words with evaluation items, each with its first hit."""
    count = sum(report["contaminated"] for report in reports)
    if count:
        dropped = sum(report["dropped"] for report in reports)
        yield f"### `contaminated`: {_share(count, read)} found, {dropped:,} dropped\n"
        hits = [list({hit["row"]: hit for hit in report["hits"][::-1]}.values())[::-1] for report in reports]
        for hit in [hit for shard in hits for hit in shard][:EXAMPLES]:
            yield _entry(hit["id"], f"{hit['task']}, item {hit['item']}", hit["ngram"])


def _example(entry: dict[str, Any]) -> str:
    value, threshold = entry["value"], entry["threshold"]
    # What JSON can't hold: no number in a column, or a document without tokens, of endless bytes per token.
    unknown = "missing" if entry["rule"].startswith("where_") else "infinite"
    found = unknown if value is None else f"{value:.4g}"
    return _entry(entry["id"], f"value {found}, threshold {threshold:.4g}", entry["text"])


def _entry(name: str | None, remark: str, text: str) -> str:
    """A list item; the text in a code block, so that nothing in it is taken for Markdown."""
    shown = " ".join(text[:SHOWN_CHARACTERS].split())
    return f"- `{(name or 'no id').replace('`', ' ')}`: {remark}\n\n      {shown}\n"


def _share(documents: int, read: int) -> str:
    return f"{documents:,} documents ({100 * documents / read:.2f} %)"
