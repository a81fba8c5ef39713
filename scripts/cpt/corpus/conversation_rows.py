"""Reads conversations from files: rows of parquet or JSON lines that hold a list of messages."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cpt.corpus.conversations import NEXT, THEN, Message, as_text
from cpt.corpus.documents import Document, open_parquet, read_rows
from cpt.corpus.encodings import valid_text
from cpt.corpus.readers import format_of
from cpt.corpus.sources import json_lines
from cpt.errors import UserError

ROLES = {"human": "user", "gpt": "assistant"}  # names in ShareGPT's format (`from`, `value`)


def conversations_in(path: Path, name: str, column: str) -> Iterator[Document]:
    """The conversations of a file of JSON lines or parquet, in order; ids are `name:row`.

    `column` is the key or column that holds the messages. Raises UserError, naming file and row, where a row
    doesn't hold messages.
    """
    for row, (where, value, damaged) in enumerate(_rows(path, column)):
        text, replaced = text_of_row(value, where)
        yield Document(f"{name}:{row}", text, name, damaged or replaced)


def _rows(path: Path, column: str) -> Iterator[tuple[str, Any, bool]]:
    """Yields each row's place (for error messages), its value, and whether bytes in it were replaced."""
    if format_of(path.name) == "parquet":
        if column not in (names := open_parquet(path).schema_arrow.names):
            raise _missing_column_error(column, str(path), names)
        for row, (value,) in enumerate(read_rows(path, [column])):
            yield f"{path}, row {row}", value, False
        return
    for number, line in json_lines(path):
        text, damaged = valid_text(line)
        where = f"{path}, line {number}"
        row = _parse_row(text, where)
        if column not in row:
            raise _missing_column_error(column, where, row)
        yield where, row[column], damaged


def _parse_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}); each line must be one conversation as JSON") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a line must be a JSON object that holds messages, not {line.strip()[:40]}")
    return row


def _missing_column_error(column: str, where: str, names: Iterable[str]) -> UserError:
    return UserError(
        f"{where}: there is no {column!r} (but {', '.join(names)}), where a list of messages is expected; "
        "name the key or column that holds them with the corpus's key text_column"
    )


def text_of_row(value: Any, where: str) -> tuple[str | None, bool]:
    """Messages as `as_text` writes them, and whether characters in them were replaced.

    Reads only role and content of each. Raises UserError, naming `where`, if they aren't text.
    """
    if value is None:
        return None, False
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise UserError(
            f'{where}: expected a list of messages such as {{"role": "user", "content": "..."}}, but it is '
            f"{str(value)[:40]!r}; correct the row"
        )
    messages, replaced = [], False
    for number, message in enumerate(value, start=1):
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or not isinstance(content, str | None):
            raise UserError(
                f"{where}, message {number}: its role and content must be text (or the content null), but "
                f"are {type(role).__name__} and {type(content).__name__}; correct the row, or take it out"
            )
        parts = [valid_text(part) for part in (ROLES.get(role, role), content or "")]
        clean = [part.replace(NEXT, "\ufffd").replace(THEN, "\ufffd") for part, _ in parts]
        replaced |= any(one != part or damaged for one, (part, damaged) in zip(clean, parts, strict=True))
        messages.append(Message(*clean))
    return as_text(messages), replaced
