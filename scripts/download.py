"""Fetch one shard of a corpus: from the hub, from own files, or from installed documentation (paper 3.1)."""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cpt.command import command_parser, json_value, run
from cpt.corpus.addresses import Address, fetch_address, is_address, matching_addresses
from cpt.corpus.documentation import documents_of, source_files
from cpt.corpus.documents import Document, open_parquet, raw_schema, require_text_column, row_writer
from cpt.corpus.hub import fetch_hub_file
from cpt.corpus.layout import folder_of_parts
from cpt.corpus.sources import documents_in, matching_files
from cpt.errors import UserError
from cpt.files import atomic, sha256_of, write_json
from cpt.progress import Progress
from cpt.provenance import provenance


def file_entry(path: Path, name: str) -> dict[str, Any]:
    """What the manifest tells of a file that was read."""
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def write_documents(
    documents: Iterable[Document], output: Path, where: str, columns: Sequence[str] = ()
) -> int:
    """Write the raw shard, with these columns of numbers; returns in how many documents characters were
    replaced."""
    replaced = 0
    with atomic(output) as temporary, Progress(where, unit="documents") as progress:
        with row_writer(temporary, raw_schema(columns)) as rows:
            for document in documents:
                rows.add(document.id, document.text, document.url, *document.numbers)
                replaced += document.replaced
                progress.advance()
        if not rows.count:
            raise UserError(f"{where}: there is not one document in it; look into its files, or name others")
    return replaced


def fetch_hub(source: dict, arguments: argparse.Namespace, where: str) -> dict[str, Any]:
    """Fetch a hub file: parquet stays as it is, JSON lines are converted."""
    fetched = fetch_hub_file(source, arguments.corpus, arguments.shard, arguments.shards, arguments.output)
    files = [{"name": fetched.name, "bytes": fetched.size, "sha256": fetched.sha256}]
    replaced = 0
    if fetched.name.endswith(".parquet"):
        file = open_parquet(fetched.path)
        require_text_column(fetched.name, file.schema_arrow, source["text_column"])
        if not file.metadata.num_rows:
            raise UserError(f"{where}: there is not one document in it; look into its files, or name others")
        with atomic(arguments.output) as temporary:
            fetched.path.rename(temporary)
    else:
        columns = source.get("columns", ())
        documents = documents_in(fetched.path, fetched.name, source["text_column"], columns)
        replaced = write_documents(documents, arguments.output, where, columns)
    shutil.rmtree(fetched.path.parent)
    return {"revision": fetched.revision, "files": files, "documents_with_replaced_characters": replaced}


def read_local(source: dict, arguments: argparse.Namespace, where: str) -> dict[str, Any]:
    """Read this shard's share of the files on this disk or at addresses, which are copied here first."""
    patterns = [source["files"]] if isinstance(source["files"], str) else source["files"]
    own = [pattern for pattern in patterns if not is_address(pattern)]
    found: dict[str, Path | Address] = {}
    if own:
        found |= {str(path): path for path in matching_files(own, arguments.corpus)}
    for pattern in patterns:
        if is_address(pattern):
            found |= {address.url: address for address in matching_addresses(pattern, arguments.corpus)}
    mine = sorted(found)[arguments.shard :: arguments.shards]
    if not mine:
        raise UserError(
            f"corpora.{arguments.corpus}.shards: {source['shards']} shards are asked for, but only "
            f"{len(found)} files match; lower shards"
        )
    folder = folder_of_parts(arguments.output)
    paths = {
        name: fetch_address(found[name], folder, arguments.corpus) if is_address(name) else found[name]
        for name in mine
    }
    documents = (
        document
        for name, path in paths.items()
        for document in documents_in(path, name, source["text_column"], source.get("columns", ()))
    )
    replaced = write_documents(documents, arguments.output, where, source.get("columns", ()))
    files = [file_entry(path, name) for name, path in paths.items()]
    shutil.rmtree(folder, ignore_errors=True)
    return {"revision": None, "files": files, "documents_with_replaced_characters": replaced}


def read_documentation(source: dict, arguments: argparse.Namespace, where: str) -> dict[str, Any]:
    """Read this shard's share of the packages' source files."""
    mine = source_files(source["packages"], arguments.corpus)[arguments.shard :: arguments.shards]
    write_documents((document for file in mine for document in documents_of(file)), arguments.output, where)
    files = [file_entry(file.path, file.url) for file in mine]
    return {"revision": None, "files": files, "documents_with_replaced_characters": 0}


SOURCES = {"hub": fetch_hub, "local": read_local, "documentation": read_documentation}


def main(arguments: argparse.Namespace) -> None:
    source = arguments.source
    where = f"corpora.{arguments.corpus}, shard {arguments.shard}"
    details = SOURCES[source["source"]](source, arguments, where)
    manifest = {
        "corpus": arguments.corpus,
        "shard": arguments.shard,
        "source": source,
        **details,
        "rows": open_parquet(arguments.output).metadata.num_rows,
        "bytes": arguments.output.stat().st_size,
        "sha256": sha256_of(arguments.output),
        "provenance": provenance(source, arguments.code),
    }
    write_json(arguments.manifest, manifest)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--corpus", required=True, help="the corpus's name in the config")
    parser.add_argument("--source", type=json_value, required=True, help="the corpus's entry in the config")
    parser.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    parser.add_argument("--shards", type=int, required=True, help="how many the corpus has")
    parser.add_argument("--output", type=Path, required=True, help="the raw shard (.parquet)")
    parser.add_argument("--manifest", type=Path, required=True, help="what was read (.json)")
    run(main, parser)
