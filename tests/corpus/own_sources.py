"""Own files, read as the corpus stages read them."""

from pathlib import Path

from cpt.config_sections import LocalCorpus
from cpt.corpus.sources import documents_in
from download import download


def documents_of(path: Path, text_column: str = "text") -> list[tuple]:
    """Id, text and address of each document in a file, and whether characters were replaced."""
    return [tuple(document)[:4] for document in documents_in(path, path.name, text_column)]


def fetch(folder: Path, files: list[Path], shard: int = 0, shards: int = 1) -> tuple[Path, Path]:
    """The parquet file and the manifest of a shard of own files."""
    source = LocalCorpus(source="local", files="texts/*", shards=shards)
    paths = folder / "00000.parquet", folder / "00000.json"
    download("news", source, shard, shards, *paths, files=files)
    return paths
