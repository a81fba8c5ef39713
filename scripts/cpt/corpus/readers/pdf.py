# ruff: noqa: RUF001
"""PDF files with a text layer."""

import re
from bisect import bisect_left
from ctypes import byref, c_double, c_int, create_string_buffer
from itertools import pairwise

from cpt.corpus.readers.base import Reader, Work
from cpt.corpus.readers.formulas import raised
from cpt.corpus.readers.layout import blocks_of, letters, without_margins
from cpt.corpus.readers.lines import BULLETS, HYPHEN, Cell, Line
from cpt.errors import UserError

_FIXED_PITCH = 1  # the bit of a font's flags
_MONOSPACED = re.compile(rb"mono|courier|consol|typewriter|menlo|cmtt|inconsolata|code|fixed", re.IGNORECASE)
CELLS_APART = 0.75  # of the size of type: a wider gap separates cells, not words
SMALLER = 0.85  # of a line's size of type: smaller signs are superscripts or subscripts
MOST_OBJECTS = 1_000  # of a page, that are checked for images
_MARK = re.compile(rf"[{BULLETS}*–—-]|\(?(?:\d{{1,3}}|[a-zA-Z]|[ivx]+)[.)]")
_DIGIT = re.compile(r"\d")
_LEADERS = re.compile(r".*(?:\. ?){4,}\s*[\divxlc]+$")


class PdfReader(Reader):
    """Text of the pages: each paragraph's lines joined, no page headers, footers or page numbers.

    Headings are those of the outline; without an outline, lines in larger type.
    """

    format, endings, kinds = "pdf", (".pdf",), ("PDF",)

    def read(self, content: bytes) -> Work:
        """The document. Raises UserError if it is damaged or needs a password."""
        import pypdfium2

        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            advice = (
                "name a copy without a password"
                if "password" in str(error).lower()
                else "it is damaged or cut short; fetch or make it again"
            )
            raise UserError(f"it can't be opened ({error}): {advice}") from None
        pages, work = [], Work([])
        for number in range(len(document)):
            try:
                page = _Page(document[number], number)
            except pypdfium2.PdfiumError:
                work.without_text.append(f"page {number + 1} (damaged)")
                continue
            pages.append(page)
            if page.lines:
                work.without_text += [f"page {number + 1}, figure {n + 1}" for n in range(page.images or 0)]
            elif page.images is not None:
                work.without_text.append(f"page {number + 1}")
        lines = without_margins([(page.lines, page.height) for page in pages])
        work.blocks = blocks_of([line for line in lines if not _LEADERS.match(line.text)], _outline(document))
        title = document.get_metadata_value("Title")
        document.close()
        work.title = next((block.text for block in work.blocks if block.level), " ".join(title.split()))
        return work


def _outline(document) -> dict[int, dict[str, int]]:
    """The outline's headings: {page: {`letters` of a heading: level, from 1}}."""
    import pypdfium2

    levels: dict[int, dict[str, int]] = {}
    try:
        for entry in document.get_toc(max_depth=6):
            target = entry.get_dest()
            page = target.get_index() if target is not None else None
            if page is not None and (name := letters(entry.get_title())):
                levels.setdefault(page, {})[name] = entry.level + 1
    except pypdfium2.PdfiumError:  # a broken outline loses no text
        return levels
    return levels


class _Page:
    """The lines of a page.

    Attributes: `lines`, `height` (points), and `images` (their number; None: the page is empty).
    """

    def __init__(self, page, number: int):
        from pypdfium2 import raw

        self.raw, self.number, self.height = raw, number, page.get_height()
        self.fonts: dict[bytes, bool] = {}  # whether each is monospaced
        self.numbers = tuple(c_double() for _ in range(4))
        self.edges = tuple(map(byref, self.numbers))
        self.flags, self.name = c_int(), create_string_buffer(64)
        self.all_flags = byref(self.flags)
        text_page = page.get_textpage()
        self.handle = text_page.raw
        text = text_page.get_text_range()
        self.straight = len(text) == text_page.count_chars()
        self.lines: list[Line] = []
        place = 0
        for line in text.split("\r\n"):
            for part in line.split(HYPHEN):  # PDFium joins a word that a hyphen divides
                if part.strip():
                    self.lines.append(self.line(part, place, self.ends_with_hyphen(text, place + len(part))))
                place += len(part) + 1
            place += 1
        self.images = self.count_images(page.raw)
        text_page.close()

    def ends_with_hyphen(self, text: str, place: int) -> bool:
        """Whether PDFium marks a word-dividing hyphen at a place of the text."""
        return text[place : place + 1] == HYPHEN

    def line(self, text: str, place: int, divided: bool) -> Line:
        """The line that begins at a place of the page's text."""
        bare = text.strip()
        first = place + len(text) - len(text.lstrip())
        last = first + len(bare) - 1
        if not self.straight:
            first, last = (self.raw.FPDFText_GetCharIndexFromTextIndex(self.handle, n) for n in (first, last))
        start, base = self.origin(first)
        fonts = self.font(first), self.font(last)
        fixed = all(self.fonts[font] for font in fonts) and self.fonts[self.font((first + last) // 2)]
        sized = first + 2 if bare[0] in BULLETS and last > first + 1 else first  # a bullet may be larger
        size = self.raw.FPDFText_GetFontSize(self.handle, sized)
        runs = self.runs(first, last - first + 1)
        end, cells = runs[-1][1] if runs else start, ()
        if fixed:
            bare = self.aligned(bare, first, end - start)
        elif len(runs) > 1:
            if _DIGIT.search(bare):
                bare = self.with_raised(bare, first, base, size, runs)
            cells = self.cells(bare + HYPHEN * divided, first, size, runs)
        term = fonts[0] != fonts[1]
        return Line(bare + HYPHEN * divided, start, end, base, size, self.number, fixed, term, cells)

    def origin(self, place: int) -> tuple[float, float]:
        """The origin (x, y) of a character, in points."""
        self.raw.FPDFText_GetCharOrigin(self.handle, place, *self.edges[:2])
        return self.numbers[0].value, self.numbers[1].value

    def sign_at(self, x: float, first: int, count: int) -> int:
        """The index of a line's first sign that begins at x or to the right of it."""
        return bisect_left(range(count), x, key=lambda number: self.origin(first + number)[0])

    def runs(self, first: int, count: int) -> list[tuple[float, float]]:
        """Left and right edges of the pieces of a line that were drawn separately, or in another font."""
        left, _, right, _ = self.numbers
        pieces = []
        for number in range(self.raw.FPDFText_CountRects(self.handle, first, count)):
            self.raw.FPDFText_GetRect(self.handle, number, *self.edges)
            pieces.append((left.value, right.value))
        return pieces

    def with_raised(
        self, text: str, first: int, base: float, size: float, runs: list[tuple[float, float]]
    ) -> str:
        """A line's text with raised and lowered digits as superscripts and subscripts."""
        signs = list(text)
        for left, right in runs:
            number = (
                self.sign_at(left - 0.2 * size, first, len(text)) if right - left < 2 * size else len(text)
            )
            while number < len(text) and self.origin(first + number)[0] < right:
                above = self.origin(first + number)[1] - base
                smaller = self.raw.FPDFText_GetFontSize(self.handle, first + number) < SMALLER * size
                if smaller and abs(above) > 0.08 * size and text[number].isdigit():
                    signs[number] = raised(text[number], below=above < 0)
                number += 1
        return "".join(signs)

    def cells(self, text: str, first: int, size: float, runs: list[tuple[float, float]]) -> tuple[Cell, ...]:
        """The cells of a line, separated by gaps; none if it has no gaps."""
        edges = [runs[0]]
        for left, right in runs[1:]:
            if left - edges[-1][1] > CELLS_APART * size:
                edges.append((left, right))
            else:
                edges[-1] = edges[-1][0], max(right, edges[-1][1])
        if len(edges) > 1 and _MARK.fullmatch(text.split()[0]):  # a list item's mark is no cell
            edges[:2] = [(edges[0][0], edges[1][1])]
        if len(edges) < 2:
            return ()
        starts = [
            0,
            *(self.sign_at(left - 0.3 * size, first, len(text.rstrip(HYPHEN))) for left, _ in edges[1:]),
            len(text),
        ]
        parts = [text[begin:end].strip() for begin, end in pairwise(starts)]
        return tuple(map(Cell, parts, *zip(*edges, strict=True))) if all(parts) else ()

    def font(self, place: int) -> bytes:
        """The name of a character's font; records in `fonts` whether it is monospaced."""
        self.raw.FPDFText_GetFontInfo(self.handle, place, self.name, 64, self.all_flags)
        font = self.name.value
        if font not in self.fonts:
            self.fonts[font] = bool(self.flags.value & _FIXED_PITCH or _MONOSPACED.search(font))
        return font

    def aligned(self, line: str, first: int, length: float) -> str:
        """A line of code with as many spaces as there are on the page."""
        step = self.origin(first + 1)[0] - self.origin(first)[0] if len(line) > 1 else 0
        if length < (len(line) + 0.5) * step:
            return line
        places = [self.origin(first + number)[0] for number in range(len(line))]
        steps = sorted(after - before for before, after in pairwise(places) if after > before)
        if not steps:
            return line
        width, text = steps[len(steps) // 2], ""
        for sign, at in zip(line, places, strict=True):
            if sign != " ":
                text += " " * (round((at - places[0]) / width) - len(text)) + sign
        return text

    def count_images(self, page) -> int | None:
        """The number of images on the page; None if the page is empty."""
        count = self.raw.FPDFPage_CountObjects(page)
        objects = (self.raw.FPDFPage_GetObject(page, n) for n in range(min(count, MOST_OBJECTS)))
        kinds = [self.raw.FPDFPageObj_GetType(each) for each in objects]
        return kinds.count(self.raw.FPDF_PAGEOBJ_IMAGE) if count else None
