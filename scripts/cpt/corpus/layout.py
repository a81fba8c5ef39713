"""Where a corpus's files lie below `{results}/corpora`: the formats that the stages hand on."""

from collections.abc import Iterator
from pathlib import Path


def shard_name(number: int) -> str:
    """Five digits, so that names sort as numbers."""
    return f"{number:05d}"


def shards_of(corpora: dict[str, int]) -> Iterator[tuple[str, str]]:
    """All (corpus, shard) of a mapping corpus: number of shards, in its order."""
    for corpus, count in corpora.items():
        for number in range(count):
            yield corpus, shard_name(number)


def shard_path(root: Path, corpus: str, stage: str, shard: str, ending: str) -> Path:
    """A stage's file for one shard, such as root/corpus/filtered/00000.parquet."""
    return root / corpus / stage / f"{shard}{ending}"


def folder_of_parts(raw: Path) -> Path:
    """Where what was fetched for a raw shard lies until the shard is complete."""
    return raw.with_name(f".{raw.name}.download")
