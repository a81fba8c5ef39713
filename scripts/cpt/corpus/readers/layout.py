# ruff: noqa: RUF001
"""Groups lines on pages into headings, paragraphs, lists and code."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from cpt.corpus.readers.base import Block
from cpt.corpus.readers.lines import BULLETS, HYPHEN, Cell, Line
from cpt.corpus.readers.pdf_tables import rows_of, table_at

MARGIN = 0.12  # of a page's height, above and below, where page headers and footers are
USUAL = 0.4  # the least share of odd (or even) pages with a header or footer at one height
WIDER = 1.3  # times the usual width per character: the line has gaps
LARGER = 1.12  # times the usual size: the line is a heading
BROKEN = "˓→"  # Sphinx's sign before the rest of a line of code
_ITEM = re.compile(rf"(?:[{BULLETS}*–—-]|\(?\d{{1,3}}[.)]|\(?[a-zA-Z][.)])\s")
_NUMBERED = re.compile(r"(?:[A-Z]|\d{1,3})(?:\.\d+)*\.?\s+")
_NUMBER = re.compile(r"[-–—\s]*(?:\d+|[ivxlc]+)[-–—\s]*", re.IGNORECASE)
_SENTENCE_ENDS = (".", "!", "?", ":", "”", '"', ";", ")", "]", "。")


def letters(text: str) -> str:
    """The letters and digits of a heading, without its number, to compare it with an outline's entry."""
    if number := _NUMBERED.match(text):
        text = text[number.end() :]
    return "".join(filter(str.isalnum, text)).lower()


def without_margins(pages: list[tuple[list[Line], float]]) -> list[Line]:
    """All lines in order, without page numbers and the headers and footers of pages.

    `pages` are (lines, height). Lines at one height in a margin are headers or footers if at least half of
    `USUAL` of the pages, and at least two, have one there, and most recur on other pages but for numbers.
    """
    heights: Counter[tuple[int, bool]] = Counter()
    texts: dict[tuple[int, bool], Counter[str]] = {}
    for lines, height in pages:
        edges: dict[tuple[int, bool], list[str]] = {}
        for line in lines:
            if not MARGIN * height < line.base < (1 - MARGIN) * height:
                edges.setdefault((round(line.base), line.base > height / 2), []).append(line.text)
        for place, edge_texts in edges.items():
            heights[place] += 1
            texts.setdefault(place, Counter()).update({_masked(text) for text in edge_texts})
    enough = max(2, USUAL * len(pages) / 2)  # odd and even pages may differ
    dropped = {place for place, count in heights.items() if count >= enough and _repeats(texts[place])}
    kept = []
    for lines, height in pages:
        for line in lines:
            edge = not MARGIN * height < line.base < (1 - MARGIN) * height
            if not edge or (
                (round(line.base), line.base > height / 2) not in dropped
                and not (_NUMBER.fullmatch(line.text) and line in (lines[0], lines[-1]))
            ):
                kept.append(line)
    return kept


def _masked(text: str) -> str:
    return "#" if _NUMBER.fullmatch(text) else re.sub(r"\d+", "#", text)


def _repeats(texts: Counter[str]) -> bool:
    """Whether most lines at one place occur there on several pages."""
    total = sum(texts.values())
    return sum(count for count in texts.values() if count > 1) >= 0.7 * total


class _Layout:
    """The usual sizes, distances and edges of a document's lines."""

    def __init__(self, lines: list[Line]):
        sizes: Counter[float] = Counter()
        for line in lines:
            if not line.fixed:
                sizes[round(line.size * 2) / 2] += len(line.text)
        self.size = sizes.most_common(1)[0][0] if sizes else 0.0
        gaps: dict[float, Counter[float]] = {}
        self.middle = _middles(lines)
        rights: dict[tuple[int, bool], list[float]] = {}
        for line, following in itertools.pairwise(lines):
            rights.setdefault(self.column(line), []).append(line.right)
            gap = line.base - following.base
            if line.page == following.page and 0.8 * line.size < gap < 2.2 * line.size:
                gaps.setdefault(round(line.size * 2) / 2, Counter())[round(gap, 0)] += 1
        widths = sorted(_width(line) / line.size for line in lines if line.size and len(line.text) > 20)
        self.width = widths[len(widths) // 2] if widths else 0.5
        self.leading = {size: count.most_common(1)[0][0] for size, count in gaps.items()}
        self.right = {column: _usual_maximum(values) for column, values in rights.items()}
        self.lines = lines

    def follows(self, line: Line, following: Line, first: Line) -> bool:
        """Whether `following` continues the paragraph that begins with `first` and ends with `line`."""
        if abs(line.size - following.size) > 0.6 or line.fixed != following.fixed or self.has_cells(line):
            return False
        right = self.right.get(self.column(line), line.right)
        word = following.text.split(maxsplit=1)[0]
        full = line.text[-1] == HYPHEN or line.right + _width(line) * (len(word) + 1) > right - 1
        shift = following.left - line.left
        item = _ITEM.match(following.text)
        if not full or (item and (abs(shift) > 2 or item[0][0] in BULLETS)):
            return False
        if self.column(line) != self.column(following):
            return following.text[:1].islower() or not line.text.endswith(_SENTENCE_ENDS)
        gap = line.base - following.base
        if not 0.3 * line.size < gap < self.leading_of(line) + 0.25 * line.size:
            return False
        if line is not first:
            return abs(shift) < 2.5
        # The first line of a paragraph may be indented; the later lines of an item or a definition are.
        hangs = bool(_ITEM.match(first.text)) or (first.term and shift < 6 * line.size)
        return -4 * line.size < shift < 2 or (shift > 0 and hangs)

    def column(self, line: Line) -> tuple[int, bool]:
        """A line's page, and whether it is in the right-hand one of two columns."""
        return line.page, line.left > self.middle.get(line.page, line.left)

    def has_cells(self, line: Line) -> bool:
        """Whether a line has gaps, as between the cells of a table."""
        return not line.fixed and _width(line) > WIDER * self.width * line.size

    def leading_of(self, line: Line) -> float:
        """The usual distance between baselines for a line's size of type."""
        return self.leading.get(round(line.size * 2) / 2, 1.2 * line.size)

    @cached_property
    def vocabulary(self) -> Counter[str]:
        """The number of times each word, with its hyphens, occurs in the document."""
        return Counter(re.findall(r"[\w-]+", "\n".join(line.text for line in self.lines).lower()))

    def joined(self, lines: Sequence[Line | Cell]) -> str:
        """The text of a paragraph's (or a cell's) lines, without hyphens that only divide words."""
        text = lines[0].text
        for line in lines[1:]:
            if text[-1] in "-\u00ad\u2010\ufffe" and text[-2:-1].isalnum() and line.text[:1].isalnum():
                text = text[:-1] + HYPHEN + line.text
            elif text[-1] == "/" and "://" in f"{text.rpartition(' ')[2]}/":  # an address continues
                text += line.text
            else:
                text = f"{text} {line.text}"
        if HYPHEN in text:
            text = re.sub(rf"([\w-]+){HYPHEN}([\w-]+)", self.undivided, text).replace(HYPHEN, "-")
        return text

    def undivided(self, match: re.Match) -> str:
        """The joined word; its hyphen stays if that form is more common (tie: before a capital or digit)."""
        first, second = match[1], match[2]
        whole, divided = (first + second).lower(), f"{first}-{second}".lower()
        keeps = second[0].isupper() or second[0].isdigit()
        if self.vocabulary[whole] != self.vocabulary[divided]:
            keeps = self.vocabulary[divided] > self.vocabulary[whole]
        return f"{first}-{second}" if keeps else first + second


def _middles(lines: list[Line]) -> dict[int, float]:
    """The middle (points) of each page with two columns: few lines cross it."""
    pages: dict[int, list[Line]] = {}
    for line in lines:
        pages.setdefault(line.page, []).append(line)
    middles = {}
    for page, on_page in pages.items():
        middle = (min(line.left for line in on_page) + max(line.right for line in on_page)) / 2
        crossing = sum(line.left < middle < line.right for line in on_page)
        right = sum(line.left >= middle for line in on_page)
        if crossing < 0.15 * len(on_page) and right > 0.2 * len(on_page):
            middles[page] = middle
    return middles


def _width(line: Line) -> float:
    """The mean width of a line's characters, in points."""
    return (line.right - line.left) / len(line.text)


def _usual_maximum(values: list[float]) -> float:
    """The 95th percentile, as the right edge of lines: a few may stick out."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def blocks_of(lines: list[Line], outline: dict[int, dict[str, int]]) -> list[Block]:
    """The blocks of lines, in order.

    `outline` maps each page to {`letters` of a heading: level}. If it is empty, lines in larger type are
    headings, with higher levels for larger type.
    """
    lines = _connected(lines)
    layout = _Layout(lines)
    large = sorted({round(line.size) for line in lines if _is_large(line, layout)}, reverse=True)
    headings = [_heading(lines, number, layout, outline, large) for number in range(len(lines))]
    stops = [bool(level) for level, _ in headings]
    blocks: list[Block] = []
    number, single, items = (
        0,
        False,
        False,
    )  # single, items: whether the last paragraph was one line, or a list item
    while number < len(lines):
        first = lines[number]
        level, used = headings[number]
        if level:
            text = " ".join(line.text for line in lines[number : number + used])
            blocks.append(Block(text.replace(HYPHEN, "-"), level))
            number += used
            continue
        table, end = table_at(lines, number, stops)
        if table:
            blocks.append(Block("\n".join(rows_of(table, layout.joined))))
            number, single, items = end, False, False
            continue
        end = number + 1
        if first.fixed:
            while end < len(lines) and lines[end].fixed and _same_code(lines[end - 1], lines[end]):
                end += 1
            blocks.append(Block(_code(lines[number:end])))
        else:
            while (
                end < len(lines)
                and not headings[end][0]
                and layout.follows(lines[end - 1], lines[end], first)
            ):
                end += 1
            text = re.sub(rf"^[{BULLETS}]\s+", "- ", layout.joined(lines[number:end]))
            before = lines[number - 1] if number else None
            listed = items and bool(_ITEM.match(first.text))
            alike = listed or (single and end - number == 1)
            if (
                before
                and blocks
                and not blocks[-1].level
                and alike
                and _belong_together(before, first, layout, listed)
            ):
                blocks[-1] = Block(f"{blocks[-1].text}\n{text}")
            else:
                blocks.append(Block(text))
            single, items = end - number == 1, bool(_ITEM.match(first.text))
        number = end
    return blocks


def _connected(lines: list[Line]) -> list[Line]:
    """Lines joined with a bullet or rest that was drawn apart, or with the rest of a broken line of code."""
    connected: list[Line] = []
    for line in lines:
        before = connected[-1] if connected else None
        if (
            before
            and before.text in BULLETS
            and before.page == line.page
            and abs(before.base - line.base) < 3
        ):
            connected[-1] = line._replace(text=f"{before.text} {line.text}", left=before.left, cells=())
        elif before and _continues_line(before, line):  # a superscript in between splits a line
            space = " " if line.left - before.right > 0.15 * line.size else ""
            connected[-1] = before._replace(text=f"{before.text}{space}{line.text}", right=line.right)
        elif before and line.text.startswith(BROKEN):
            rest = line.text.removeprefix(BROKEN).strip()
            connected[-1] = before._replace(text=f"{before.text} {rest}", base=line.base)
        else:
            connected.append(line)
    return connected


def _continues_line(before: Line, line: Line) -> bool:
    """Whether a line is the rest of the line before it."""
    same = before.page == line.page and before.fixed == line.fixed and not before.text.endswith(HYPHEN)
    plain = not line.fixed and not before.cells and not line.cells
    gap = line.left - before.right
    return same and plain and abs(before.base - line.base) < 0.25 * line.size and -1 < gap < 0.75 * line.size


def _is_large(line: Line, layout: _Layout) -> bool:
    return line.size > LARGER * layout.size and len(line.text) < 150 and not line.fixed and len(line.text) > 1


def _heading(
    lines: list[Line], number: int, layout: _Layout, outline: dict[int, dict[str, int]], large: list[int]
) -> tuple[int, int]:
    """The level of the heading that begins at line `number` (0: no heading), and its number of lines."""
    first = lines[number]
    if outline:
        entries, text = outline.get(first.page, {}), ""
        for used in range(1, 4) if entries else ():
            if number + used > len(lines) or lines[number + used - 1].size < first.size - 0.6:
                break
            text += lines[number + used - 1].text + " "
            name = letters(text)
            if name in entries:
                return entries[name], used
            if not any(entry.startswith(name) for entry in entries):
                break
        return 0, 0
    if not _is_large(first, layout):
        return 0, 0
    used = 1
    while (
        number + used < len(lines)
        and _is_large(lines[number + used], layout)
        and abs(lines[number + used].size - first.size) < 0.6
        and 0 < first.base - lines[number + used].base < 1.6 * used * first.size
    ):
        used += 1
    return min(6, large.index(round(first.size)) + 1), used


def _same_code(line: Line, following: Line) -> bool:
    gap = line.base - following.base
    return line.page != following.page or -1 < gap < 5 * line.size


def _code(lines: list[Line]) -> str:
    left = min(line.left for line in lines)
    widths = [(line.right - line.left) / len(line.text) for line in lines if len(line.text) > 3]
    width = sorted(widths)[len(widths) // 2] if widths else 0.6 * lines[0].size
    gaps = [before.base - line.base for before, line in itertools.pairwise(lines) if line.page == before.page]
    leading = min((gap for gap in gaps if gap > 0), default=lines[0].size)
    text: list[str] = []
    for before, line in zip([lines[0], *lines], lines, strict=False):
        if line.page == before.page and before.base - line.base > 1.5 * leading:
            text.append("")
        text.append(" " * round((line.left - left) / width) + line.text)
    return "\n".join(text)


def _belong_together(line: Line, following: Line, layout: _Layout, items: bool) -> bool:
    """Whether two lines, neither of which continues the other, belong to one list, table or verse."""
    gap = line.base - following.base
    rows = layout.has_cells(line) and layout.has_cells(following)
    usual = layout.leading_of(line)
    most = 2.5 * usual if rows else 1.8 * usual if items else usual + 0.25 * line.size
    same = line.page == following.page and abs(line.size - following.size) < 0.6 and not line.fixed
    return same and 0.3 * line.size < gap < most
