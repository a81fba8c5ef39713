"""The lines on a page of a PDF file, and their cells."""

from typing import NamedTuple

HYPHEN = "\ufffe"  # at the end of a line, where a word is divided
BULLETS = "•‣▪◦○●■"


class Cell(NamedTuple):
    """A part of a line with a gap before or after it."""

    text: str
    left: float
    right: float


class Line(NamedTuple):
    """A line of text: its edges and baseline (points; y grows upwards), size of type, page from 0 on.

    `fixed`: its type is monospaced. `term`: it begins and ends in different fonts. `cells`: its parts, if
    there are gaps between them.
    """

    text: str
    left: float
    right: float
    base: float
    size: float
    page: int
    fixed: bool
    term: bool = False
    cells: tuple[Cell, ...] = ()
