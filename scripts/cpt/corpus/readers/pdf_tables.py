"""Finds tables on pages: lines whose cells are below each other become rows."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cpt.corpus.readers.lines import Cell, Line

MOST_LINES = 40  # of a row
LEADING = 1.7  # times the size of type: the largest distance between lines of a cell
HIGHER = 20  # times the size of type: how much higher another cell of a row may begin


class Row(NamedTuple):
    """A row's cells in order, each a list of lines, and the number of the line after the row."""

    cells: list[list[Cell]]
    end: int

    def edges(self) -> list[tuple[float, float]]:
        """The left and right edge of each cell."""
        return [(min(c.left for c in cell), max(c.right for c in cell)) for cell in self.cells]


def table_at(lines: list[Line], start: int, stops: list[bool]) -> tuple[list[Row], int]:
    """The rows of the table that begins with line `start`, and the number of the line after the table.

    Fewer than two rows with the same columns are no table: ([], start). `stops` marks lines that are in no
    table, such as headings.
    """
    rows: list[Row] = []
    end = start
    while end < len(lines) and (row := _row_at(lines, end, stops)) is not None:
        if rows and (_changes_size(lines, end) or not _same_columns(rows, row)):
            break
        rows.append(row)
        end = row.end
    return (rows, end) if len(rows) > 1 else ([], start)


def _changes_size(lines: list[Line], number: int) -> bool:
    """Whether a line's size of type differs from that of the line before it on the same page."""
    before, line = lines[number - 1], lines[number]
    return line.page == before.page and abs(before.size - line.size) > 0.2 * line.size


def _row_at(lines: list[Line], start: int, stops: list[bool]) -> Row | None:
    """The row that begins with line `start`; None if it has fewer than two cells."""
    first = lines[start]
    if first.fixed or stops[start]:
        return None
    cells = [[cell] for cell in _cells(first)]
    lowest = highest = first.base
    end = start + 1
    while end < min(len(lines), start + MOST_LINES) and not stops[end]:
        line, before = lines[end], lines[end - 1]
        if line.page != first.page or line.fixed or abs(line.size - first.size) > 0.6:
            break
        down = before.base - line.base
        last = cells[-1]
        if down < 0.3 * line.size:  # beside the line before, or higher: another cell
            if line.base > highest + HIGHER * line.size or line.left < max(c.right for c in last):
                break
            cells += [[cell] for cell in _cells(line)]
        elif down < LEADING * line.size and _continues(cells, line):
            last.append(_cells(line)[0])
            cells += [[cell] for cell in _cells(line)[1:]]
        else:
            break
        lowest, highest = min(lowest, line.base), max(highest, line.base)
        end += 1
    # Lines of a single cell are a paragraph.
    return Row(cells, end) if len(cells) > 1 else None


def _cells(line: Line) -> tuple[Cell, ...]:
    return line.cells or (Cell(line.text, line.left, line.right),)


def _continues(cells: list[list[Cell]], line: Line) -> bool:
    """Whether a line continues the last cell: below its left edge, its right edge or its middle."""
    left, right = min(c.left for c in cells[-1]), max(c.right for c in cells[-1])
    first = _cells(line)[0]
    aligned = abs(first.left - left) < 3 or (abs(first.right - right) < 3 and len(cells) > 1)
    centred = abs(first.left + first.right - left - right) < 6
    beside = len(cells) < 2 or line.left > max(c.right for c in cells[-2])
    return beside and (aligned or centred)


def _columns(rows: list[Row]) -> list[tuple[float, float]]:
    """The left and right edges of the rows' columns; cells that overlap are in one column."""
    columns: list[tuple[float, float]] = []
    for left, right in sorted(edge for row in rows for edge in row.edges()):
        if columns and left < columns[-1][1]:
            columns[-1] = columns[-1][0], max(right, columns[-1][1])
        else:
            columns.append((left, right))
    return columns


def _same_columns(rows: list[Row], row: Row) -> bool:
    """Whether each cell of `row` is below at most one column, none shares one, and two or more have one."""
    columns = _columns(rows)
    below = [[n for n, (a, b) in enumerate(columns) if a < right and left < b] for left, right in row.edges()]
    used = [n for numbers in below for n in numbers]
    return all(len(numbers) < 2 for numbers in below) and len(used) == len(set(used)) and len(used) > 1


def rows_of(table: list[Row], joined: Callable[[list[Cell]], str]) -> Iterator[str]:
    """One line of text per row, with | between columns; `joined` joins the lines of a cell."""
    columns = _columns(table)
    for row in table:
        cells = [""] * len(columns)
        for cell, (left, right) in zip(row.cells, row.edges(), strict=True):
            place = next(n for n, (a, b) in enumerate(columns) if a <= left and right <= b)
            cells[place] = f"{cells[place]} {joined(cell)}".strip()
        yield " | ".join(cells).rstrip()
