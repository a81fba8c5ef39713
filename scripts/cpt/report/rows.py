"""Tables of results as CSV files: written atomically, equal byte for byte, read back with their types."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.files import atomic

Row = dict[str, Any]


def read_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file as text. Raises UserError if it has no rows or lacks a required column."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in required if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(
                f"{path}: expected the columns {', '.join(required)}, but {', '.join(missing)} is missing; "
                "delete the file and make it again"
            )
        rows = list(reader)
    if not rows:
        raise UserError(f"{path}: no rows below the header; delete the file and make it again")
    return rows


def read_typed(path: Path, columns: tuple[str, ...], text: set[str]) -> list[Row]:
    """These columns of a CSV file: those in `text` as str; elsewhere digits as int, other numbers as float,
    true and false as bool, empty cells as None."""

    def value(name: str, cell: str) -> Any:
        if name in text:
            return cell
        if cell in ("true", "false", ""):
            return cell == "true" if cell else None
        return int(cell) if cell.isdigit() else float(cell)

    return [{name: value(name, row[name]) for name in columns} for row in read_rows(path, columns)]


def grouped(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    """Group rows by their value in a column; keeps their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if "p" in name.split("_") else f"{value:.6f}"
    return str(value)


def write_rows(path: Path, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Write a table: floats to 6 decimals, p values to 6 significant digits, unknown values empty.

    Without rows, only its header.
    """
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(name, row.get(name)) for name in columns] for row in rows)
