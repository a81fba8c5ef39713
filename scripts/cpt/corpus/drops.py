"""Records what the rules dropped and why: tables of counts, examples, and the report on both."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import DamagedFileError, UserError
from cpt.files import read_json, write_text

EXAMPLES = 10  # per rule
EXAMPLE_CHARACTERS = 2_000
SHOWN_CHARACTERS = 200  # that the report shows of each example


class Drop(NamedTuple):
    """Why a document was dropped: the rule, the document's value (None: missing), and the bound."""

    rule: str
    value: float | None
    threshold: float


# The config's key of a rule's threshold, where its name differs from the rule's.
_KEYS = {
    "empty": "corpora.{corpus}.text_column",
    "minimum_lines": "filters.length.minimum_lines",
    "short_lines": "filters.length.maximum_short_line_share",
    "duplicate_lines": "filters.repetition.duplicate_line_share",
    "duplicate_paragraphs": "filters.repetition.duplicate_paragraph_share",
    "duplicate_line_characters": "filters.repetition.duplicate_line_character_share",
    "duplicate_paragraph_characters": "filters.repetition.duplicate_paragraph_character_share",
    "unknown": "filters.token_quality.maximum_unknown_share",
    "distinct": "filters.token_quality.minimum_distinct_share",
    "longest_run": "filters.token_quality.maximum_run_tokens",
    "minimum_bytes_per_token": "filters.token_quality.minimum_bytes_per_token",
    "maximum_bytes_per_token": "filters.token_quality.maximum_bytes_per_token",
}


def key_of(rule: str, corpus: str) -> str:
    """The config's key that controls a rule; the rule's name if it has no key."""
    if ngram := re.fullmatch(r"(top|duplicate)_(\d+)_gram", rule):
        return f"filters.repetition.{ngram[1]}_ngram_character_share.{ngram[2]}"
    for prefix, key in (("where_", f"corpora.{corpus}.where."), ("private_", "filters.private.")):
        if rule.startswith(prefix):
            return key + rule.removeprefix(prefix)
    return _KEYS.get(rule, rule).format(corpus=corpus)


def warnings_of(
    corpus: str, table: Mapping[str, Sequence[int]], examples: Sequence[dict[str, Any]], warn_share: float
) -> list[str]:
    """Warnings of rules that dropped more than `warn_share` of a corpus's documents, with examples.

    `table` maps each rule, and `read`, `kept` and `held_out`, to counts, documents first. Raises UserError,
    naming the rules' keys, if no document of the corpus is left.
    """
    read = table["read"][0]
    dropped = {
        rule: counts[0]
        for rule, counts in table.items()
        if counts[0] and rule not in ("read", "kept", "held_out") and not rule.startswith("masked_")
    }
    messages = []
    for rule, count in sorted(dropped.items(), key=lambda entry: -entry[1]):
        shown = [_short(entry) for entry in examples if entry["rule"] == rule][:3]
        if count > warn_share * read:
            what = f"corpus {corpus}: {key_of(rule, corpus)} dropped {_share(count, read)}"
            messages.append(f"{what}, such as {'; '.join(shown)}" if shown else what)
    if read and sum(dropped.values()) == read:
        texts = messages or [
            f"{key_of(rule, corpus)} {_share(count, read)}" for rule, count in dropped.items()
        ]
        raise UserError(
            f"corpus {corpus}: not one of its {read:,} documents is left; change the thresholds "
            f"(`filters: {{preset: reference}}` is for manuals), or remove the corpus: {'; '.join(texts)}"
        )
    return messages


def _short(entry: dict[str, Any]) -> str:
    value = "none" if entry["value"] is None else f"{entry['value']:.3g}"
    return f"{entry['id'] or 'no id'} ({value}, threshold {entry['threshold']:.3g})"


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

    def note(self, rule: str, *amounts: int) -> None:
        """Add to a rule that only changes documents: `amounts` are documents, then each quantity."""
        counts = self.counts[rule]
        for column, amount in enumerate(amounts):
            counts[column] += amount

    def example(
        self, rule: str, value: float | None, threshold: float, name: str | None, url: str | None, text: str
    ) -> None:
        """Record a dropped document; the first `EXAMPLES` of a rule keep their text as examples."""
        entry: dict[str, Any] = {"rule": rule, "value": value, "threshold": threshold, "id": name}
        if len(self.examples[rule]) < EXAMPLES:
            entry |= {"url": url, "text": text[:EXAMPLE_CHARACTERS]}
        self.examples[rule].append(entry)

    def write(self, table: Path, examples: Path) -> None:
        """Write the counts as CSV, and the dropped documents as JSON lines, examples with their text."""
        lines = [",".join(("rule", *self.columns))]
        lines += [",".join((rule, *map(str, counts))) for rule, counts in self.counts.items()]
        write_text(table, "\n".join(lines) + "\n")
        kept = [json.dumps(entry, ensure_ascii=False) for rule in self.examples.values() for entry in rule]
        write_text(examples, "".join(f"{line}\n" for line in kept))


def read_table(path: Path, names: int) -> list[list]:
    """The rows of a table below its header: `names` cells of text, then whole numbers.

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
    """A shard's dropped documents recorded with text. Raises DamagedFileError if a line isn't JSON."""
    return [entry for entry in read_dropped(path) if "text" in entry]


def read_dropped(path: Path) -> list[dict[str, Any]]:
    """All documents that the rules dropped from a shard. Raises DamagedFileError if a line isn't JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except ValueError as error:
        raise DamagedFileError(f"{path}: not complete JSON ({error}); delete it and run again") from None


def read_tables(paths: list[Path]) -> dict[str, list[int]]:
    """The sum of the drop tables of several shards: {rule: [documents, bytes (, tokens)]}.

    Raises DamagedFileError if a table isn't complete.
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

    Each list has a file per shard; see the stage drop_report. A section shows the first `EXAMPLES` of the
    shards' examples.
    """
    filtered = read_tables(drops)
    read = filtered["read"][0]
    yield f"## {corpus}: {read:,} documents read\n"
    yield from _rules(filtered, examples, read)
    yield from _masked(filtered)
    yield from _contamination([read_json(path) for path in contamination], read)
    yield from _rules(read_tables(token_drops), token_examples, read)


def _rules(table: dict[str, list[int]], examples: list[Path], read: int) -> Iterator[str]:
    """A section for each rule of a stage's table."""
    shown: dict[str, list[str]] = {}
    for path in examples:
        for entry in read_examples(path):
            shown.setdefault(entry["rule"], []).append(_example(entry))
    for rule, (documents, *_) in table.items():
        if documents and rule not in ("read", "kept", "held_out") and not rule.startswith("masked_"):
            yield f"### `{rule}`: {_share(documents, read)}\n"
            yield from shown.get(rule, [])[:EXAMPLES]


def _masked(table: dict[str, list[int]]) -> Iterator[str]:
    """A section on masked private data, if there is any."""
    masked = {rule.removeprefix("masked_"): counts[0] for rule, counts in table.items() if "masked_" in rule}
    if any(masked.values()):
        yield "### `private`: masked\n"
        yield "".join(f"- {kind}: in {documents:,} documents\n" for kind, documents in masked.items())


def overlap_section(report: dict[str, Any], worst: list[dict[str, str]]) -> str:
    """The section on held-out text that training text contains too; `worst` are rows of overlap.csv."""
    share = report["shared"] / max(report["ngrams"], 1)
    dropped = sum(counts["documents"] for counts in report["dropped"].values())
    lines = [
        f"## Held-out text that is in training text: {100 * share:.1f} %\n",
        f"Of {report['ngrams']:,} n-grams of {report['ngram']} words in {report['held_out_documents']:,} "
        f"held-out documents. {dropped:,} documents were taken out of training for it. Most is of:\n",
    ]
    lines += [
        f"- `{row['id'] or 'no id'}` ({row['corpus']}): {100 * float(row['share']):.0f} %, of which "
        f"{100 * float(row['closest_share']):.0f} % in `{row['closest']}`"
        for row in worst
    ]
    return "\n".join(lines) + "\n"


def _contamination(reports: list[dict[str, Any]], read: int) -> Iterator[str]:
    """A section on the first documents that share words with evaluation items, each with its first hit."""
    count = sum(report["contaminated"] for report in reports)
    if count:
        dropped = sum(report["dropped"] for report in reports)
        yield f"### `contaminated`: {_share(count, read)} found, {dropped:,} dropped\n"
        hits = [list({hit["row"]: hit for hit in report["hits"][::-1]}.values())[::-1] for report in reports]
        for hit in [hit for shard in hits for hit in shard][:EXAMPLES]:
            yield _entry(hit["id"], f"{hit['task']}, item {hit['item']}", hit["ngram"])
    items = reports[0]["items"] if reports else {}
    if short := [f"`{task}`" for task, counts in items.items() if 2 * counts["too_short"] > counts["items"]]:
        yield f"Most items of {', '.join(short)} are too short to be looked for.\n"


def _example(entry: dict[str, Any]) -> str:
    value, threshold = entry["value"], entry["threshold"]
    # JSON can't hold these: a missing number of a column, or a document without tokens (inf bytes per token).
    unknown = "missing" if entry["rule"].startswith("where_") else "infinite"
    value_text = unknown if value is None else f"{value:.4g}"
    return _entry(entry["id"], f"value {value_text}, threshold {threshold:.4g}", entry["text"])


def _entry(name: str | None, remark: str, text: str) -> str:
    """A list item, with the text in a code block so that nothing in it is read as Markdown."""
    shown = " ".join(text[:SHOWN_CHARACTERS].split())
    return f"- `{(name or 'no id').replace('`', ' ')}`: {remark}\n\n      {shown}\n"


def _share(documents: int, read: int) -> str:
    return f"{documents:,} documents ({100 * documents / read:.2f} %)"
