"""Reads a corpus's files one after the other, and records an entry on each for the manifest."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.config_sections import HubCorpus, LocalCorpus, PackageCorpus
from cpt.corpus.conversation_rows import conversations_in
from cpt.corpus.documents import Document
from cpt.corpus.encodings import valid_text
from cpt.corpus.readers import format_of
from cpt.corpus.reading import ReadingProcess
from cpt.corpus.sources import ROWS, documents_of_work, rows_in
from cpt.errors import UserError
from cpt.files import sha256_of

MOST_LISTED = 20  # files or pages in a message


def entry_of(path: Path, name: str) -> dict[str, Any]:
    """A file's entry in the manifest: name, size and SHA-256."""
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


class FileReading:
    """Reads files of a corpus. Attribute: `entries`, the manifest's entry on each file."""

    def __init__(self, source: HubCorpus | LocalCorpus | PackageCorpus, columns: Sequence[str]):
        self.source, self.columns = source, columns
        self.entries: list[dict[str, Any]] = []

    def rows(self, paths: Mapping[str, Path]) -> Iterator[tuple[Document, str, str]]:
        """All documents, each with its file's name and format.

        `paths` maps the config's names of the files to their paths. Raises UserError at once if a row can't
        be read. Other files that can't be read are skipped; a UserError at the end lists them, unless the
        corpus's key `unreadable` is `skip`.
        """
        unreadable: list[str] = []
        with ReadingProcess() as process:
            for raw_name, path in paths.items():
                name = valid_text(raw_name)[0] or ""  # names on a disk needn't be UTF-8
                kind, entry = format_of(path.name), entry_of(path, name)
                self.entries.append(entry)
                documents = replaced = 0
                try:
                    for document in self._documents(path, name, process, entry):
                        documents += 1
                        replaced += document.replaced
                        yield document, name, kind
                except UserError as error:
                    if kind in ROWS:
                        raise
                    entry["error"] = str(error)
                    unreadable.append(str(error))
                entry |= {
                    "format": kind,
                    "documents": documents,
                    "documents_with_replaced_characters": replaced,
                }
                _warn(name, entry)
        if unreadable and getattr(self.source, "unreadable", "stop") == "stop":
            listed = "\n  ".join(unreadable[:MOST_LISTED])
            more = f"\n  and {len(unreadable) - MOST_LISTED:,} more" if len(unreadable) > MOST_LISTED else ""
            raise UserError(
                f"{len(unreadable):,} of {len(paths):,} files can't be read:\n  {listed}{more}\nCorrect or "
                "remove them, or set the corpus's key `unreadable: skip`"
            )

    def _documents(
        self, path: Path, name: str, process: ReadingProcess, entry: dict[str, Any]
    ) -> Iterator[Document]:
        if self.source.conversations:
            yield from conversations_in(path, name, self.source.messages_column)
        elif format_of(path.name) in ROWS:
            yield from rows_in(path, name, self.source.text_column, self.columns)
        else:
            work = process.read(path)
            entry["without_text"] = work.without_text
            yield from documents_of_work(work, path, name, self.columns)


def _warn(name: str, entry: dict[str, Any]) -> None:
    """Log what of a file is lost, or may be."""
    if "error" in entry:
        logging.warning("skipped: %s", entry["error"])
    if replaced := entry["documents_with_replaced_characters"]:
        logging.warning(
            "%s: %s of its documents have bytes that its encoding has no character for; they became U+FFFD",
            name,
            f"{replaced:,}",
        )
    pages = [place for place in entry.get("without_text", []) if "figure" not in place]
    if pages:
        more = ", ..." if len(pages) > MOST_LISTED else ""
        logging.warning(
            "%s: no text layer on %s pages (%s%s); recognise it first: ocrmypdf --skip-text IN.pdf OUT.pdf",
            name,
            f"{len(pages):,}",
            ", ".join(pages[:MOST_LISTED]),
            more,
        )
