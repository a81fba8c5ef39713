"""Raw shards: the documents of a corpus's source as one parquet file, and what was read for it."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpt.config_sections import Corpus, DocumentationCorpus, HubCorpus, LocalCorpus
from cpt.corpus.addresses import Address, fetch_address, is_address, matching_addresses
from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.documents import Document, open_parquet, raw_schema, require_columns, row_writer
from cpt.corpus.hub import fetch_hub_file
from cpt.corpus.remote import folder_of_parts
from cpt.corpus.sources import documents_in, require_reader
from cpt.errors import UserError
from cpt.files import atomic, sha256_of
from cpt.progress import Progress


class Shard(NamedTuple):
    """One shard of a corpus: its number, how many there are, and the file that its documents go to."""

    corpus: str
    number: int
    count: int
    documents: Path

    def __str__(self) -> str:
        return f"corpora.{self.corpus}, shard {self.number}"


def write_raw(source: Corpus, shard: Shard, columns: Sequence[str], files: Sequence[Path]) -> dict[str, Any]:
    """Write a raw shard; returns what the manifest says of what was read.

    Args:
        source: the corpus's entry in the config.
        shard: which one, and where to.
        columns: of numbers that are kept beside the text; a parquet file of the hub stays whole.
        files: own files on this disk that match, of a source of kind `local`.
    """
    if isinstance(source, HubCorpus):
        return _from_hub(source, shard, columns)
    if isinstance(source, LocalCorpus):
        return _from_files(source, shard, columns, files)
    return _from_documentation(source, shard)


def _from_hub(source: HubCorpus, shard: Shard, columns: Sequence[str]) -> dict[str, Any]:
    """Fetch a hub file: parquet stays as it is, JSON lines are converted."""
    path, revision, entry = fetch_hub_file(source, shard.corpus, shard.number, shard.count, shard.documents)
    name, replaced = entry["name"], 0
    if name.endswith(".parquet"):
        file = open_parquet(path)
        require_columns(name, file.schema_arrow, source.text_column)
        if not file.metadata.num_rows:
            raise _no_documents(shard)
        with atomic(shard.documents) as temporary:
            path.rename(temporary)
    else:
        replaced = _write(documents_in(path, name, source.text_column, columns), shard, columns)
    shutil.rmtree(path.parent)
    return {"revision": revision, "files": [entry], "documents_with_replaced_characters": replaced}


def _from_files(
    source: LocalCorpus, shard: Shard, columns: Sequence[str], files: Sequence[Path]
) -> dict[str, Any]:
    """Read this shard's share of the files on this disk or at addresses, which are copied here first."""
    patterns = [source.files] if isinstance(source.files, str) else source.files
    found: dict[str, Path | Address] = {str(path): path for path in files if not path.is_dir()}
    for name in found:
        require_reader(name, name, shard.corpus)
    for pattern in filter(is_address, patterns):
        found |= {address.url: address for address in matching_addresses(pattern, shard.corpus)}
    if not found:
        raise UserError(
            f"corpora.{shard.corpus}.files: no file matches {', '.join(patterns)}; "
            "fix the pattern or put the files there"
        )
    mine = sorted(found)[shard.number :: shard.count]
    if not mine:
        raise UserError(
            f"corpora.{shard.corpus}.shards: {shard.count} shards are asked for, but only {len(found)} files "
            "match; lower shards"
        )
    folder = folder_of_parts(shard.documents)
    paths = {
        name: fetch_address(found[name], folder, shard.corpus) if is_address(name) else found[name]
        for name in mine
    }
    documents = (
        document
        for name, path in paths.items()
        for document in documents_in(path, name, source.text_column, columns)
    )
    replaced = _write(documents, shard, columns)
    entries = [_entry(path, name) for name, path in paths.items()]
    shutil.rmtree(folder, ignore_errors=True)
    return {"revision": None, "files": entries, "documents_with_replaced_characters": replaced}


def _from_documentation(source: DocumentationCorpus, shard: Shard) -> dict[str, Any]:
    """Read this shard's share of the packages' source files."""
    mine = source_files(source.packages, shard.corpus)[shard.number :: shard.count]
    _write((document for file in mine for document in documents_of(file)), shard)
    entries = [_entry(file.path, file.url) for file in mine]
    return {"revision": None, "files": entries, "documents_with_replaced_characters": 0}


def _entry(path: Path, name: str) -> dict[str, Any]:
    """What the manifest says of a file that was read."""
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _write(documents: Iterable[Document], shard: Shard, columns: Sequence[str] = ()) -> int:
    """Write the shard, with these columns of numbers; returns how many documents had characters replaced."""
    replaced = 0
    with atomic(shard.documents) as temporary, Progress(str(shard), unit="documents") as progress:
        with row_writer(temporary, raw_schema(columns)) as rows:
            for document in documents:
                rows.add(document.id, document.text, document.url, *document.numbers)
                replaced += document.replaced
                progress.advance()
        if not rows.count:
            raise _no_documents(shard)
    return replaced


def _no_documents(shard: Shard) -> UserError:
    return UserError(f"{shard}: there is not one document in it; look into its files, or name others")
