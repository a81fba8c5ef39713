"""What the rules dropped from a corpus, for a person to read: counts and examples as Markdown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.drops import EXAMPLES, read_tables
from cpt.corpus.layout import shard_path, shards_of
from cpt.files import read_json

SHOWN_CHARACTERS = 200  # of each example


def sections_of(root: Path, corpus: str, shards: int) -> Iterator[str]:
    """The sections of one corpus, in the order of the stages: one for each rule that dropped something.

    The examples of a rule are the first `EXAMPLES` of those that the shards kept, in the order of the shards.
    """
    names = [shard for _, shard in shards_of({corpus: shards})]
    tables = {
        stage: read_tables([shard_path(root, corpus, stage, shard, ".drops.csv") for shard in names])
        for stage in ("filtered", "tokens")
    }
    read = tables["filtered"]["read"][0]
    yield f"## {corpus}: {read:,} documents read\n"
    for stage, table in tables.items():
        examples: dict[str, list[str]] = {}
        for shard in names:
            with open(shard_path(root, corpus, stage, shard, ".examples.jsonl"), encoding="utf-8") as file:
                for entry in map(json.loads, file):
                    examples.setdefault(entry["rule"], []).append(_example(entry))
        for rule, (documents, *_) in table.items():
            if documents and rule not in ("read", "kept", "held_out"):
                yield f"### `{rule}`: {_share(documents, read)}\n"
                yield from examples[rule][:EXAMPLES]
        if stage == "filtered":
            yield from _contamination(
                [read_json(shard_path(root, corpus, "decontaminated", shard, ".json")) for shard in names],
                read,
            )


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
