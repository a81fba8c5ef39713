"""Converts tables of reStructuredText: one line per row, with | between cells."""

import re
from collections.abc import Iterator
from itertools import pairwise

_GRID = re.compile(r"\s*\+(?:[-=]+\+)+\s*$")
_SIMPLE = re.compile(r"\s*=+(?: +=+)+\s*$")
_LISTED = re.compile(r"(\s*)\.\. list-table::")


def split_tables(text: str) -> Iterator[tuple[list[str], str]]:
    """Yields (rows of a table, "") and ([], text around tables), in order."""
    lines, prose, number = text.split("\n"), [], 0
    while number < len(lines):
        rows, end = _table(lines, number)
        if rows:
            yield [], "\n".join(prose)
            yield rows, ""
            prose, number = [], end
        else:
            prose += lines[number : end + 1]
            number = end + 1
    yield [], "\n".join(prose)


def _table(lines: list[str], start: int) -> tuple[list[str], int]:
    """The rows of the table at line `start`, and the line after it; no table: [] and the last line read."""
    end = start
    if _GRID.match(lines[start]):
        while end < len(lines) and lines[end].lstrip().startswith(("+", "|")):
            end += 1
        rows = _grid([line.strip() for line in lines[start:end]])
        return rows, end if rows else end - 1
    if _SIMPLE.match(lines[start]):
        end = _end_of_simple(lines, start)
        rows = _simple(lines[start:end])
        return rows, end if rows else max(start, end - 1)
    if not lines[start].lstrip().startswith("* -"):
        return [], start
    before = next((lines[n] for n in range(start - 1, -1, -1) if lines[n].strip()), "")
    if directive := _LISTED.match(before):
        while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > len(directive[1])):
            end += 1
        return _listed(lines[start:end]), end
    return [], start


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _row(cells: list[str]) -> str:
    return " | ".join(" ".join(cell.split()) for cell in cells).strip()


def _grid(lines: list[str]) -> list[str]:
    """The rows of a grid table; cells end where all lines of a row have a bar."""
    rows: list[str] = []
    group: list[str] = []
    for line in lines:
        if not line.startswith("+"):
            group.append(line)
        elif group:
            shared = [n for n in range(min(map(len, group))) if all(each[n] in "|+" for each in group)]
            cells = [" ".join(_cell(each[a + 1 : b]) for each in group) for a, b in pairwise(shared)]
            rows.append(_row(cells))
            group = []
    return rows


def _cell(text: str) -> str:
    return "" if re.fullmatch(r"[-=+]+", text) else text.strip()


def _end_of_simple(lines: list[str], start: int) -> int:
    """The line after a simple table, ending with its third rule or one before a blank line; else `start`."""
    rules = 1
    for number in range(start + 1, len(lines)):
        if _SIMPLE.match(lines[number]):
            rules += 1
            if rules == 3 or not "".join(lines[number + 1 : number + 2]).strip():
                return number + 1
    return start


def _simple(lines: list[str]) -> list[str]:
    """The rows of a simple table; a line without a first cell continues the row above."""
    starts = [rule.start() for rule in re.finditer("=+", lines[0])] if lines else []
    rows: list[list[str]] = []
    for line in lines[1:]:
        if re.fullmatch(r"[-= ]*", line):
            continue
        cells: list[str] = []
        for begin, end in zip(starts, [*starts[1:], None], strict=True):
            before = line[begin - 1 : begin].strip() if begin else ""
            if before and cells:  # text that spans columns
                cells[-1] += line[begin:end]
            else:
                cells.append(line[begin:end])
        if rows and not cells[0].strip():
            rows[-1] = [f"{a} {b}" for a, b in zip(rows[-1], [*cells, *[""] * len(rows[-1])], strict=False)]
        else:
            rows.append(cells)
    return [_row(cells) for cells in rows]


def _listed(lines: list[str]) -> list[str]:
    """The rows of a list-table, a list of lists."""
    rows: list[list[str]] = []
    for line in lines:
        bare = line.strip()
        if match := re.match(r"\* -\s*(.*)", bare):
            rows.append([match[1]])
        elif rows and (match := re.match(r"-(?:\s+(.*)|$)", bare)):
            rows[-1].append(match[1] or "")
        elif rows:
            rows[-1][-1] += f" {bare}"
    return [_row(cells) for cells in rows]
