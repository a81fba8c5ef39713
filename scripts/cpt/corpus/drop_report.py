"""What the rules dropped from a corpus, for a person to read: counts and examples as Markdown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cpt.corpus.drops import EXAMPLES, read_examples, read_tables
from cpt.files import read_json

SHOWN_CHARACTERS = 200  # of each example


class Drops(NamedTuple):
    """What the stages tell of one corpus's drops; each list has a file per shard."""

    drops: list[Path]
    examples: list[Path]
    contamination: list[Path]
    token_drops: list[Path]
    token_examples: list[Path]


def sections_of(corpus: str, files: Drops) -> Iterator[str]:
    """The sections of one corpus, in the order of the stages: one for each rule that dropped something.

    The examples of a rule are the first `EXAMPLES` of those that the shards kept, in the order of the shards.
    """
    filtered = read_tables(files.drops)
    read = filtered["read"][0]
    yield f"## {corpus}: {read:,} documents read\n"
    yield from _rules(filtered, files.examples, read)
    yield from _contamination([read_json(path) for path in files.contamination], read)
    yield from _rules(read_tables(files.token_drops), files.token_examples, read)


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
