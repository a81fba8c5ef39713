"""Plain text and Markdown, unchanged except for line breaks that only fit the text to a width."""

import itertools
import re
from collections.abc import Iterable

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work

WIDTHS = range(50, 121)  # characters; lines of other widths weren't broken to fit
SLACK = 8  # characters by which a broken line may be shorter than necessary
_UNDERLINE = re.compile(r"([=\-~^\"'`*+#:.])\1{2,}")
_CHAPTER = re.compile(r"(?:chapter|part|book|appendix)\s+(?:[ivxlcdm]+|\d+|[a-z])\b.{0,80}", re.IGNORECASE)
_ITEM = re.compile(r"[-*+•] |\(?\d{1,3}[.)]\s|\(?[a-zA-Z][.)]\s")
_ABOUT = re.compile(
    r"---[ \t]*\r?\n(?:[\w-]+[ \t]*:|#).*?^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
_NO_PROSE = re.compile(r"[|>#]|.*(?:[^\s\d.)*+•-] {3,}\S|[{};|\\]$)")


class TextReader(Reader):
    """Plain text; headings are underlined lines, or lines that name a chapter."""

    format, endings = "txt", (".txt", ".text")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't UTF-8 (or UTF-16 or UTF-32, with a byte-order mark)."""
        text, replaced = text_of(content)
        lines = text.replace("\r\n", "\n")
        flat = unwrapped(lines)
        return Work(_blocks(text if flat == lines else flat), replaced=replaced, between="")


class MarkdownReader(Reader):
    """Markdown keeps its marks; a paragraph whose lines were broken to fit a width becomes one line.

    YAML front matter (title, tags and so on between two rules) is skipped.
    """

    format, endings = "md", (".md", ".markdown")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't UTF-8 (or UTF-16 or UTF-32, with a byte-order mark)."""
        text, replaced = text_of(content)
        about = _ABOUT.match(text)
        blocks = markdown_blocks(text[about.end() :] if about else text)
        title = next((block.text.strip("# \n") for block in blocks if block.level), "")
        if about and (title_line := re.search(r"^title:\s*(\S.*)", about[0], re.MULTILINE)):
            title = title_line[1].strip().strip("\"'")
        return Work(blocks, title, replaced=replaced, between="")


def markdown_blocks(text: str) -> list[Block]:
    """The blocks of a Markdown text with their line ends; concatenated they give the text."""
    from markdown_it import MarkdownIt

    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
    levels: dict[int, int] = {}
    paragraphs: list[tuple[int, int]] = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "heading_open":
            levels[token.map[0]] = int(token.tag[1])
        elif token.type == "paragraph_open":
            paragraphs.append((token.map[0], token.map[1]))
    width = _width(lines[number].rstrip() for begin, end in paragraphs for number in range(begin, end - 1))
    for begin, end in paragraphs:
        part = [line.rstrip("\r\n") for line in lines[begin:end]]
        hard = any(line.endswith(("  ", "\\")) for line in part[:-1])  # intended line breaks
        if width and not hard and _fits(part, width):
            bare = [line.lstrip(" \t>") for line in part[1:]]
            ends = lines[end - 1][len(part[-1]) :]
            lines[begin:end] = [" ".join([part[0].rstrip(), *bare]) + ends] + [""] * (end - begin - 1)
    return _split_at_headings(lines, levels)


def _split_at_headings(lines: list[str], levels: dict[int, int]) -> list[Block]:
    """Split lines into blocks: headings, by line number in `levels`, and the text between them."""
    blocks: list[Block] = []
    for number, line in enumerate(lines):
        if level := levels.get(number):
            blocks.append(Block(line, level))
        elif not blocks or blocks[-1].level:
            blocks.append(Block(line))
        else:
            blocks[-1] = Block(blocks[-1].text + line)
    return blocks or [Block("")]


def unwrapped(text: str) -> str:
    """The text with each paragraph in one line, if its lines were broken to fit a width; else unchanged.

    Lines were broken to fit if none is longer than some width and the first word of each next line would
    not have fitted. Verses, lists, tables and code fail this test and stay unchanged.
    """
    paragraphs = re.split(r"(\n[ \t]*\n\s*?(?=\S|[ \t]+\S))", text)
    width = _width(line for part in paragraphs for line in part.split("\n")[:-1] if line.strip())
    return "".join(_joined(part, width) for part in paragraphs) if width else text


def _width(lines: Iterable[str]) -> int | None:
    """The width that lines, except last lines of paragraphs, were broken to fit; None if they weren't."""
    widths = sorted(map(len, lines))
    width = widths[int(0.98 * (len(widths) - 1))] if widths else 0
    return width if width in WIDTHS else None


def _fits(lines: list[str], width: int) -> bool:
    """Whether each line but the last is full: the next word wouldn't have fitted."""
    return len(lines) > 1 and all(
        len(line) + 1 + len((following.split() or [""])[0]) > width - SLACK
        for line, following in itertools.pairwise(lines)
    )


def _joined(paragraph: str, width: int) -> str:
    """A paragraph in one line, or a list with one line per item."""
    groups: list[list[str]] = []
    for line in paragraph.split("\n"):
        if not groups or not line.strip() or not groups[-1][0].strip() or _ITEM.match(line.strip()):
            groups.append([line])
        else:
            groups[-1].append(line)
    return "\n".join(line for group in groups for line in _one_line(group, width))


def _one_line(lines: list[str], width: int) -> list[str]:
    """A paragraph's lines as one line if they were broken to fit a width, else unchanged."""
    bare = [line.strip() for line in lines]
    if len(lines) > 2 and _indent(lines[0]) < min(map(_indent, lines[1:])) and not _ITEM.match(bare[0]):
        rest = _one_line(lines[1:], width)  # a term and its definition
        if len(rest) == 1:
            return [lines[0], *rest]
    indents = set(map(_indent, lines[1:]))
    if len(indents) != 1 or any(map(_NO_PROSE.match, bare)) or not _fits(lines, width):
        return lines
    return [lines[0][: _indent(lines[0])] + re.sub(r"(?<=\w)- (?=[a-z])", "-", " ".join(bare))]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _blocks(text: str) -> list[Block]:
    """A text's lines as blocks; headings are underlined, or name a chapter."""
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
    levels: dict[int, int] = {}
    ranks: dict[str, int] = {}
    for number, line in enumerate(lines):
        bare, below = line.strip(), lines[number + 1].strip() if number + 1 < len(lines) else ""
        alone = (
            number == 0 or not lines[number - 1].strip() or _UNDERLINE.fullmatch(lines[number - 1].strip())
        )
        if not bare or not alone or _UNDERLINE.fullmatch(bare):
            continue
        if _UNDERLINE.fullmatch(below) and abs(len(below) - len(bare)) < 3:
            levels[number] = ranks.setdefault(below[0], len(ranks) + 1)
        elif not below and _CHAPTER.fullmatch(bare):
            levels[number] = 1
    return _split_at_headings(lines, levels)
