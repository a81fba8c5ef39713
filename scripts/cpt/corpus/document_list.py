"""Lists for each document of own files whether it is kept, and which rule dropped it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cpt.arrays import load_array
from cpt.corpus.documents import as_strings, open_parquet, read_batches
from cpt.corpus.drops import read_dropped
from cpt.files import read_json

LARGEST = 10  # files that the warning considers


@dataclass
class Line:
    """A document, or a file without documents. `rule` dropped it; value and threshold may be unknown."""

    file: str
    format: str
    title: str
    characters: int
    kept: str = "yes"  # or "no", or "held out"
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    without_text: int = 0  # pages and figures of the file that hold no text

    def drop(self, rule: str, value: float | None = None, threshold: float | None = None) -> None:
        """Mark the document as dropped."""
        self.kept, self.rule, self.value, self.threshold = "no", rule, value, threshold


@dataclass
class ShardFiles:
    """The stages' files of one shard; `keeps` are (rule, keep-list) in the order of the stages."""

    raw: Path
    manifest: Path
    filtered: Path
    dropped: Path
    keeps: list[tuple[str, Path]]
    token_dropped: Path
    held_out: Path


def lines_of(shard: ShardFiles) -> list[Line]:
    """A line for each document of a shard, and for each of its files without documents."""
    lines: list[Line] = []
    names: list[str] = []
    for batch in read_batches(shard.raw, ["id", "file", "format", "title", "text"]):
        columns = [as_strings(batch[key]).to_pylist() for key in ("id", "file", "format", "title")]
        lengths = pc.utf8_length(as_strings(batch.pop("text"))).fill_null(0).to_pylist()
        for name, file, kind, title, length in zip(*columns, lengths, strict=True):
            names.append(name)
            lines.append(Line(file or "", kind or "", title or name or "", length))
    _mark_filtered(lines, names, shard)
    about = {entry["name"]: entry for entry in read_json(shard.manifest)["files"]}
    for line in lines:
        line.without_text = len(about.get(line.file, {}).get("without_text", ()))
    return lines + [_without_documents(entry) for entry in about.values() if not entry.get("documents", 1)]


def _mark_filtered(lines: list[Line], names: list[str], shard: ShardFiles) -> None:
    """Record in each line the rule that dropped its document, stage by stage."""
    batches = open_parquet(shard.filtered, ["row"]).iter_batches(2**16, columns=["row"], use_threads=False)
    rows = [row for batch in batches for row in batch.column(0).to_pylist()]
    dropped_rows = set(range(len(lines))) - set(rows)
    verdicts = _group_by_name(read_dropped(shard.dropped))
    for row in sorted(dropped_rows):
        lines[row].drop(*_next_verdict(verdicts, names[row]))
    alive = np.ones(len(rows), bool)
    for rule, path in shard.keeps:
        keep = load_array(path)
        for place in np.flatnonzero(alive & ~keep).tolist():
            lines[rows[place]].drop(rule)
        alive &= keep
    held_out: dict[str, int] = {}
    for batch in read_batches(shard.held_out, ["id"]):
        for name in as_strings(batch["id"]).to_pylist():
            held_out[name] = held_out.get(name, 0) + 1
    verdicts = _group_by_name(read_dropped(shard.token_dropped))
    for place in np.flatnonzero(alive).tolist():
        line, name = lines[rows[place]], names[rows[place]]
        if verdicts.get(name):
            line.drop(*_next_verdict(verdicts, name))
        elif held_out.get(name):
            held_out[name] -= 1
            line.kept = "held out"


def _group_by_name(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    verdicts: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        verdicts.setdefault(entry["id"], []).append(entry)
    return verdicts


def _next_verdict(
    verdicts: dict[str, list[dict[str, Any]]], name: str
) -> tuple[str, float | None, float | None]:
    """The next verdict on a document of this name; several rows may have the same id."""
    entry = verdicts[name].pop(0)
    return entry["rule"], entry["value"], entry["threshold"]


def _without_documents(entry: dict[str, Any]) -> Line:
    line = Line(entry["name"], entry["format"], entry.get("error", ""), 0)
    line.drop("unreadable" if "error" in entry else "no_text")
    line.without_text = len(entry.get("without_text", ()))
    return line


def warning(corpus: str, lines: Sequence[Line]) -> str | None:
    """A warning if any of the `LARGEST` largest files lost more than half of its text to the rules.

    Duplicates don't count as lost: one copy of their text is kept.
    """
    sizes: dict[str, list[int]] = {}
    worst: dict[str, Line] = {}
    for line in lines:
        size = sizes.setdefault(line.file, [0, 0])
        size[0] += line.characters
        lost = line.kept == "no" and not line.rule.endswith("duplicate")
        size[1] += lost * line.characters
        if lost and line.characters > getattr(worst.get(line.file), "characters", -1):
            worst[line.file] = line
    largest = sorted(sizes, key=lambda file: (-sizes[file][0], file))[:LARGEST]
    dropped_files = [file for file in largest if 2 * sizes[file][1] > sizes[file][0]]
    if not dropped_files:
        return None
    shown = "; ".join(f"{file} ({_reason(worst[file])})" for file in dropped_files)
    return (
        f"corpora.{corpus}: {len(dropped_files)} of your {len(largest)} largest files lost more than half of "
        f"their text: {shown}"
    )


def _reason(line: Line) -> str:
    if line.value is None or line.threshold is None:
        return line.rule
    return f"{line.rule}: {line.value:.4g}, threshold {line.threshold:.4g}"
