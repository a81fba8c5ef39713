"""Reads documents from files: rows of tables and JSON lines, and works that a reader cuts into documents."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

from cpt.corpus.documents import Document, as_name, open_parquet, read_rows, require_columns
from cpt.corpus.encodings import pointed_to, valid_text, wide_encoding
from cpt.corpus.readers import format_of
from cpt.corpus.reading import ReadingProcess, ReadWork
from cpt.corpus.unpacking import unpacked
from cpt.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it; concatenated files contain it
ROWS = ("parquet", "jsonl")
LONGEST_LINE = 2**30  # bytes; Arrow's strings end at 2 GiB


def documents_in(
    path: Path,
    name: str,
    text_column: str,
    columns: Sequence[str] = (),
    process: ReadingProcess | None = None,
) -> Iterator[Document]:
    """The documents of one file, in order; ids and addresses contain `name` for the file.

    Files of rows are read here, all others by `process` (default: one for this file). Raises UserError,
    naming the file, if it can't be read, or if `columns` are requested of a file without columns.
    """
    if format_of(path.name) in ROWS:
        yield from rows_in(path, name, text_column, columns)
        return
    with nullcontext(process) if process else ReadingProcess() as reading:
        yield from documents_of_work(reading.read(path), path, name, columns)


def documents_of_work(work: ReadWork, path: Path, name: str, columns: Sequence[str]) -> Iterator[Document]:
    """The documents of a file that was read as a whole. Raises UserError if `columns` isn't empty."""
    if columns:
        raise UserError(
            f"{path}: a text has no column {columns[0]!r}; remove the corpus's key `where`, or give it "
            "files with columns (.parquet, .jsonl)"
        )
    for number, (title, text) in enumerate(work.documents):
        yield Document(f"{name}:{number}", text, name, bool(work.replaced), title=title or None)


def rows_in(path: Path, name: str, text_column: str, columns: Sequence[str] = ()) -> Iterator[Document]:
    """The documents of a file of rows, in order; ids and addresses contain `name` for the file.

    A row's id is its `id` value, else `name:row`; its address is its `url` value, else `name:row`. `columns`
    name the requested numbers. Raises UserError if the file lacks one.
    """
    if format_of(path.name) == "parquet":
        require_file(path)
        schema = open_parquet(path).schema_arrow
        require_columns(path, schema, text_column, columns)
        rows = (
            (text, identity, url, False, *map(_float, numbers))
            for text, identity, url, *numbers in read_rows(path, [text_column, "id", "url", *columns])
        )
    else:
        rows = _json_lines(path, text_column, columns)
    for row, (text, identity, url, damaged, *numbers) in enumerate(rows):
        text, replaced = valid_text(text)
        title, address = as_name(identity) or f"{name}:{row}", as_name(url) or f"{name}:{row}"
        yield Document(title, text, address, damaged or replaced, tuple(numbers))


def require_file(path: Path) -> None:
    """Raise UserError if a file is only a pointer, as in a repository whose large files weren't fetched."""
    with open(path, "rb") as file:
        if pointer := pointed_to(file.read(64)):
            raise UserError(f"{path}: {pointer}")


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, compressed or not, as (number from 1 on, UTF-8 without byte-order marks).

    Blank lines are skipped. Raises UserError for damage, for a line of `LONGEST_LINE` or more, and for
    invalid UTF-16 or UTF-32.
    """
    with unpacked(path) as stream:
        beginning = stream.peek(4)[:4]
        if encoding := wide_encoding(beginning):
            lines = _wide_lines(stream, encoding, path)
        else:
            lines = iter(lambda: stream.readline(LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) >= LONGEST_LINE:
                raise UserError(
                    f"{path}, line {number}: it is longer than 1 GiB; is the file one of JSON lines?"
                )
            while line.startswith(BYTE_ORDER_MARK):
                line = line.removeprefix(BYTE_ORDER_MARK)
            if line.strip():
                yield number, line


def _wide_lines(stream: BinaryIO, encoding: str, path: Path) -> Iterator[bytes]:
    try:
        for line in io.TextIOWrapper(stream, encoding, newline="\n"):
            yield line.encode()
    except UnicodeError as error:
        raise UserError(
            f"{path}: it begins as {encoding.upper()}, but isn't ({error}); write it again as UTF-8"
        ) from None


def _json_lines(path: Path, text_column: str, columns: Sequence[str]) -> Iterator[tuple]:
    for number, line in json_lines(path):
        yield _json_row(line, f"{path}, line {number}", text_column, columns)


def _json_row(line: bytes, where: str, text_column: str, columns: Sequence[str]) -> tuple:
    decoded, damaged = valid_text(line)
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of over 4,300 digits
        wide = "; it holds NUL bytes: is it UTF-16? Convert it to UTF-8" if b"\0" in line else ""
        raise UserError(f"{where}: not JSON ({error}); each line must be one JSON object{wide}") from None
    if not isinstance(row, dict) or text_column not in row:
        contents = (
            f"its keys are {', '.join(row)}" if isinstance(row, dict) else f"it is a {type(row).__name__}"
        )
        raise UserError(
            f"{where}: there is no key {text_column!r}; {contents}; "
            "name the one that holds the text with the corpus's key text_column"
        )
    if decoded.count(f'"{text_column}"') > 1 and _times(decoded, text_column) > 1:
        raise UserError(f"{where}: the key {text_column!r} is there twice; write the line again with one")
    text = row[text_column]
    if text is not None and not isinstance(text, str):
        raise UserError(
            f"{where}: {text_column!r} holds a {type(text).__name__}, expected a string or null; correct the "
            "line, or name another key with the corpus's key text_column"
        )
    numbers = [_number(row, column, where) for column in columns]
    return text, row.get("id"), row.get("url"), damaged, *numbers


def _times(line: str, key: str) -> int:
    """The number of times a key occurs in the outermost object of a line."""
    return sum(name == key for name, _ in json.loads(line, object_pairs_hook=list))


def _number(row: dict, column: str, where: str) -> float | None:
    value = row.get(column, ...)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return _float(value)
    problem = f"there is no key {column!r}" if value is ... else f"the key {column!r} holds {value!r}"
    raise UserError(
        f"{where}: {problem}, expected a number or null; correct the line, or the corpus's key `where`"
    )


def _float(value: int | float | Decimal | None) -> float | None:
    """A number as float64; one beyond its range becomes the largest of that sign."""
    return value if value is None else float(min(max(value, -sys.float_info.max), sys.float_info.max))
