"""Where the documents of each corpus went, stage by stage, from the stages' own tables."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpt.corpus.layout import shard_path, shards_of
from cpt.errors import DamagedFileError, UserError
from cpt.files import read_json


class Row(NamedTuple):
    """Documents that a stage read, dropped or kept; bytes and tokens are None where they aren't counted."""

    corpus: str
    stage: str
    rule: str
    documents: int
    bytes: int | None
    tokens: int | None


def _rows(path: Path, names: int) -> list[list]:
    """The rows of a table below its header: cells of text, so many as `names` says, then whole numbers."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if not rows or any(len(row) != len(header) for row in rows):
            raise ValueError
        return [[*row[:names], *map(int, row[names:])] for row in rows]
    except (ValueError, csv.Error):
        raise DamagedFileError(f"{path}: not a complete table; delete it and run again") from None


def _table(paths: list[Path]) -> dict[str, list[int]]:
    """The drop tables of several shards, added up: rule: [documents, bytes or tokens]."""
    sums: dict[str, list[int]] = {}
    for path in paths:
        for rule, *counts in _rows(path, 1):
            before = sums.get(rule, [0, 0])
            sums[rule] = [had + count for had, count in zip(before, counts, strict=True)]
        if rule != "kept":
            raise DamagedFileError(f"{path}: ends before its last row, kept; delete it and run again")
    return sums


def rows_of(root: Path, corpus: str, shards: int) -> Iterator[Row]:
    """The rows of one corpus, in the order of the stages.

    Raises UserError if the documents don't add up, that is, if files of different runs lie together.
    """
    names = [shard for _, shard in shards_of({corpus: shards})]

    def paths(stage: str, ending: str) -> list[Path]:
        return [shard_path(root, corpus, stage, shard, ending) for shard in names]

    filtered = _table(paths("filtered", ".drops.csv"))
    tokens = _table(paths("tokens", ".drops.csv"))
    reports = [read_json(path) for path in paths("decontaminated", ".json")]
    manifests = [read_json(path) for path in paths("tokens", ".json")]
    duplicates = sum(repeated for name, *_, repeated in _rows(root / "duplicates.csv", 2) if name == corpus)
    read, kept = filtered.pop("read"), tokens.pop("kept")
    del filtered["kept"], tokens["read"]
    rows = [Row(corpus, "filter", rule, *counts, None) for rule, counts in filtered.items()]
    rows.append(Row(corpus, "duplicates", "", duplicates, None, None))
    dropped = sum(report["dropped"] for report in reports)
    rows.append(Row(corpus, "contaminated", "dropped", dropped, None, None))
    out = tokens.pop("held_out")
    rows += [
        Row(corpus, "token_quality", rule, count, None, amount) for rule, (count, amount) in tokens.items()
    ]
    rows.append(Row(corpus, "held_out", "", out[0], None, out[1]))
    rows.append(Row(corpus, "kept", "", kept[0], sum(entry["bytes"] for entry in manifests), kept[1]))
    if sum(row.documents for row in rows) != read[0]:
        raise UserError(
            f"corpus {corpus}: {read[0]} documents were read, but the stages' tables account for "
            f"{sum(row.documents for row in rows)}; delete {root / corpus} and run again"
        )
    reported = sum(report["contaminated"] for report in reports)
    position = rows.index(Row(corpus, "contaminated", "dropped", dropped, None, None))
    rows.insert(position, Row(corpus, "contaminated", "found", reported, None, None))
    yield Row(corpus, "raw", "", *read, None)
    yield from rows
