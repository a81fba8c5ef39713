"""Readers of documents: one class per format, chosen by a file's ending."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from cpt.corpus.readers.base import Reader
from cpt.corpus.readers.epub import EpubReader
from cpt.corpus.readers.man import ManReader
from cpt.corpus.readers.notebook import NotebookReader
from cpt.corpus.readers.pdf import PdfReader
from cpt.corpus.readers.restructured import RestructuredReader
from cpt.corpus.readers.tex import TexReader
from cpt.corpus.readers.text import MarkdownReader, TextReader
from cpt.corpus.readers.web import HtmlReader
from cpt.corpus.readers.word import WordReader
from cpt.errors import UserError

TABLES = (".parquet",)
LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".bz2", ".xz")
READERS: dict[str, Reader] = {
    reader.format: reader
    for reader in (
        TextReader(), MarkdownReader(), HtmlReader(), PdfReader(), WordReader(), EpubReader(),
        RestructuredReader(), TexReader(), ManReader(), NotebookReader(),
    )
}  # fmt: skip
ENDINGS = (*TABLES, *LINES, *(ending for reader in READERS.values() for ending in reader.endings))
SHOWN = 3  # files in a message, of each ending without a reader


def format_of(name: str) -> str | None:
    """A file's format by its name: `parquet`, `jsonl`, or a reader's `format`; None if there is no reader."""
    name = _unpacked(name)
    if name.endswith(TABLES):
        return "parquet"
    if name.endswith(LINES):
        return "jsonl"
    return next((kind for kind, reader in READERS.items() if reader.reads(name)), None)


def require_readers(names: Iterable[str], key: str, formats: Iterable[str] | None = None) -> None:
    """Raise UserError, beginning with the config's `key`, unless all names have an ending with a reader.

    The message counts the others by ending and names some. `formats` restricts the formats allowed.
    """
    without: dict[str, list[str]] = {}
    for name in names:
        file_format = format_of(name)
        if file_format is None or (formats is not None and file_format not in formats):
            ending = PurePosixPath(_unpacked(name)).suffix or "without ending"
            without.setdefault(ending, []).append(name)
    if without:
        counts = Counter({ending: len(files) for ending, files in without.items()})
        listed = ", ".join(
            f"{count:,} {ending} ({', '.join(without[ending][:SHOWN])}{', ...' if count > SHOWN else ''})"
            for ending, count in counts.most_common()
        )
        endings = [ending for ending in ENDINGS if not ending[1:].isdigit()]
        choices = (*TABLES, *LINES) if formats is not None else (*endings, ".1 to .9")
        raise UserError(
            f"{key}: no reader for {listed}; narrow the pattern to known endings: {' '.join(choices)} (in "
            f"capitals too, and packed: {' '.join(PACKED)})"
        )


def _unpacked(name: str) -> str:
    return re.sub(rf"({'|'.join(map(re.escape, PACKED))})$", "", name.lower())
