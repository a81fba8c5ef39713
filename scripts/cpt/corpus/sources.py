"""Documents out of files: tables, JSON lines and plain text."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from cpt.corpus.documents import Document, as_name, open_parquet, read_rows, require_columns, valid_text
from cpt.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what some editors begin UTF-8 with
TABLES = (".parquet",)
LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
TEXTS = (".txt", ".md")


def require_reader(
    name: str, shown: str, corpus: str, endings: tuple[str, ...] = TABLES + LINES + TEXTS
) -> None:
    """UserError, which calls the file `shown`, unless its name has one of the endings that are read."""
    if not name.endswith(endings):
        raise UserError(
            f"corpora.{corpus}.files: there is no reader for {shown}; "
            f"narrow the pattern to known endings: {' '.join(endings)}"
        )


def documents_in(path: Path, name: str, text_column: str, columns: Sequence[str] = ()) -> Iterator[Document]:
    """The documents of one file, in order; `name` is what ids and addresses call the file.

    A row's id is its `id` value, else `name:row`; its address the `url` value, else `name`. `columns` are
    those of the numbers that are wanted besides. Raises UserError where the file lacks one.
    """
    if path.name.endswith(TABLES):
        schema = open_parquet(path).schema_arrow
        require_columns(path, schema, text_column, columns)
        rows = (
            (text, identity, url, False, *numbers)
            for text, identity, url, *numbers in read_rows(path, [text_column, "id", "url", *columns])
        )
    elif path.name.endswith(LINES):
        rows = _json_lines(path, text_column, columns)
    elif columns:
        raise UserError(
            f"{path}: a text has no column {columns[0]!r}; leave out the corpus's key `where`, or give it "
            "files with columns (.parquet, .jsonl)"
        )
    else:
        rows = iter([(path.read_bytes().removeprefix(BYTE_ORDER_MARK), None, None, False)])
    for row, (text, identity, url, damaged, *numbers) in enumerate(rows):
        text, replaced = valid_text(text)
        title, address = as_name(identity) or f"{name}:{row}", as_name(url) or name
        yield Document(title, text, address, damaged or replaced, tuple(numbers))


def _json_lines(path: Path, text_column: str, columns: Sequence[str]) -> Iterator[tuple]:
    try:
        with io.BufferedReader(pa.input_stream(str(path), compression="detect")) as stream:
            for number, line in enumerate(stream, start=1):
                line = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                if line.strip():
                    yield _json_row(line, f"{path}, line {number}", text_column, columns)
    except OSError as error:
        raise UserError(f"{path}: can't be read to its end ({error}); fetch or make it again") from None


def _json_row(line: bytes, where: str, text_column: str, columns: Sequence[str]) -> tuple:
    decoded, damaged = valid_text(line)
    try:
        row = json.loads(decoded)
    except (ValueError, RecursionError) as error:  # also for a number of more than 4,300 digits
        raise UserError(f"{where}: not JSON ({error}); each line must be one JSON object") from None
    if not isinstance(row, dict) or text_column not in row:
        found = f"its keys are {', '.join(row)}" if isinstance(row, dict) else f"it is a {type(row).__name__}"
        raise UserError(
            f"{where}: there is no key {text_column!r}; {found}; "
            "name the one that holds the text with the corpus's key text_column"
        )
    text = row[text_column]
    if text is not None and not isinstance(text, str):
        raise UserError(
            f"{where}: {text_column!r} holds a {type(text).__name__}, expected a string or null; correct the "
            "line, or name another key with the corpus's key text_column"
        )
    numbers = [_number(row, column, where) for column in columns]
    return text, row.get("id"), row.get("url"), damaged, *numbers


def _number(row: dict, column: str, where: str) -> float | None:
    found = row.get(column, ...)
    if found is None:
        return None
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(min(max(found, -sys.float_info.max), sys.float_info.max))
    problem = f"there is no key {column!r}" if found is ... else f"the key {column!r} holds {found!r}"
    raise UserError(
        f"{where}: {problem}, expected a number or null; correct the line, or the corpus's key `where`"
    )
