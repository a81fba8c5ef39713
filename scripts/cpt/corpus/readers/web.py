"""HTML: web pages, the pages of e-books, and the HTML that Word documents are converted to."""

import re
from typing import TYPE_CHECKING

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work, kind_of
from cpt.corpus.readers.formulas import formula_text, raised
from cpt.errors import UserError

if TYPE_CHECKING:
    from lxml.etree import _Element

SKIPPED = {
    "script", "style", "nav", "noscript", "template", "svg", "button", "select", "input", "textarea", "title",
    "iframe", "object", "rp", "footer", "dialog", "link", "meta",
}  # fmt: skip
ROLES = {"navigation", "search", "contentinfo", "banner", "menu", "menubar"}
CLASSES = {
    "nav", "navbar", "navheader", "navfooter", "navigation", "breadcrumb", "breadcrumbs", "sidebar", "footer",
    "sphinxsidebar", "headerlink", "toc", "skip-link", "cookie-banner",
}  # fmt: skip
# Without `huge_tree` libxml2 silently drops elements nested deeper than 256, and all that follows.
_SAFE = {"resolve_entities": False, "no_network": True, "huge_tree": True}
HEADINGS = {f"h{level}": level for level in range(1, 7)}
INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font",
    "hi", "i", "ins", "kbd", "label", "mark", "q", "ref", "rt", "ruby", "s", "samp", "small", "span",
    "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", "nobr",
}  # fmt: skip
# Trafilatura finds the main text of a page. If it finds less than this share of the text outside links, it
# lost some: manuals have tables and headings that articles don't have. Then the page's whole text is kept.
MAIN_SHARE = 0.9
_MARK = re.compile(r"\[?(?:\d{1,3}|[a-z*†‡§])\]?")  # of a footnote
_BACK = set("↩↑⤴↵⏎^\ufe0e")  # signs of links from a footnote back to its mark
_LIST_LINE = re.compile(r"- |\d+\. ")
_EMPTY = re.compile(
    r"<(a|b|div|em|i|p|script|span|strong|style|td|th|title|iframe|li)(\s[^<>]*)?/>", re.IGNORECASE
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE,
)


class HtmlReader(Reader):
    """Web pages: their text without menus, or only trafilatura's main text if much else surrounds it."""

    format, endings, kinds = "html", (".html", ".htm", ".xhtml"), ("HTML",)

    def checked(self, content: bytes) -> Work:
        """As for any reader, but content of no known kind is read too: it may be a part of a page."""
        return super().checked(content) if kind_of(content) else self.read(content)

    def read(self, content: bytes) -> Work:
        """The page. Raises UserError if it isn't in the encoding that it declares."""
        text, replaced = html_text(content)
        walk = Walk(text)
        main = _main_blocks(text)
        main_size, everything = characters(main), characters(walk.blocks)
        if main_size < MAIN_SHARE * everything and main_size >= MAIN_SHARE * (everything - walk.linked):
            walk.blocks = main
        return Work(walk.blocks, walk.title, walk.figures, replaced)


def html_text(content: bytes) -> tuple[str, int]:
    """The text of a page's bytes by the encoding that it declares, and the number of replaced characters."""
    declared = _DECLARED.search(content[:4096])
    names = [name.decode() for name in declared.groups() if name] if declared else []
    # As in browsers: Latin-1 means Windows-1252; a page whose declaration is readable as ASCII isn't UTF-16.
    latin = ("iso-8859-1", "latin1", "latin-1", "us-ascii", "ascii")
    name = next(iter(names), "utf-8").lower()
    return text_of(content, "cp1252" if name in latin else "utf-8" if name.startswith("utf-16") else name)


def characters(blocks: list[Block]) -> int:
    """The number of characters in blocks, without white space."""
    return sum(len("".join(block.text.split())) for block in blocks)


def _main_blocks(text: str) -> list[Block]:
    import trafilatura

    options = {"include_comments": False, "favor_recall": True, "with_metadata": False}
    page = trafilatura.bare_extraction(text, **options)
    if page is None or page.body is None:
        return []
    walk = Walk("")
    walk.inside(page.body)
    walk.flush()
    return walk.blocks


def _parsed(text: str) -> "_Element | None":
    """The tree of a page, parsed as XML if it is well-formed XHTML, else as HTML; no entity is resolved."""
    from lxml import etree, html

    content = text.encode(errors="replace")
    if text.lstrip().startswith("<?xml") or "http://www.w3.org/1999/xhtml" in text[:2048]:
        try:
            declared = re.sub(rb"^\s*<\?xml[^>]*\?>", b"", content)
            parser = etree.XMLParser(encoding="utf-8", **_SAFE)
            tree = etree.fromstring(declared, parser)
            for element in tree.iter(etree.Element):
                element.tag = etree.QName(element).localname
            return tree
        except etree.XMLSyntaxError:
            content = _EMPTY.sub(r"<\1\2></\1>", text).encode(errors="replace")
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        tree = html.document_fromstring(content, parser)
    except etree.ParserError:  # the page is empty, or the parser kept nothing
        tree = None
    if any("xcessive depth" in error.message for error in parser.error_log):
        raise UserError("its elements are nested too deeply to be read, 2,048 or more; correct or remove it")
    return tree


class Walk:
    """A page's blocks in the order of its text: headings, paragraphs, list items, tables, code.

    Attributes: `blocks`, `title`, `figures` (images without alternative text), and `linked` (the number of
    characters in links).
    """

    def __init__(self, text: str):
        self.blocks: list[Block] = []
        self.line: list[str] = []  # of the paragraph so far; \v is a line break
        self.figures: list[str] = []
        self.title, self.linked, self.images = "", 0, 0
        tree = _parsed(text) if text.strip() else None
        if tree is not None:
            self.title = " ".join((tree.findtext(".//title") or "").split())
            self.inside(tree)
            self.flush()

    def flush(self) -> None:
        """End the paragraph."""
        lines = [" ".join(line.split()) for line in "".join(self.line).split("\v")]
        self.line = []
        if text := "\n".join(lines).strip("\n"):
            self.blocks.append(Block(text))

    def inside(self, element: "_Element") -> None:
        """Read the content of an element."""
        self.line.append(element.text or "")
        for child in element:
            self.element(child)
            self.line.append(child.tail or "")

    def element(self, element: "_Element") -> None:
        """Read an element, without the text after it."""
        tag = element.tag
        if not isinstance(tag, str):
            return
        if tag in INLINE and not (tag == "code" and "\n" in (element.text or "")):
            if tag in ("a", "sup", "sub"):
                self.link_or_raised(element, tag)
            elif not _is_aside(element):
                self.inside(element)
        elif tag == "math":
            self.line.append(formula_text(element))
        elif tag in ("br", "lb"):
            self.line.append("\v")
        elif tag in ("img", "graphic", "image"):
            self.images += 1
            if not (element.get("alt") or "").strip():
                self.figures.append(f"figure {self.images}")
        elif tag not in SKIPPED and not _is_aside(element):
            self.flush()
            self.block(element, tag)
            self.flush()

    def link_or_raised(self, element: "_Element", tag: str) -> None:
        """Read a link, superscript or subscript; a footnote's mark becomes [1]."""
        text = "".join("".join(element.itertext()).split())
        self.linked += len(text) * (tag == "a")
        if _is_aside(element) or (tag == "a" and text and _BACK.issuperset(text)):
            return
        links = "#" in (element.get("href") or next((a.get("href") or "" for a in element.iter("a")), ""))
        called = any("noteref" in value for value in element.attrib.values())
        marks = tag == "sup" or called or element.find(".//sup") is not None
        if links and marks and _MARK.fullmatch(text):
            self.line.append(f"[{text.strip('[]')}]")
        elif tag == "a" or len(element):
            self.inside(element)
        else:
            self.line.append(raised(element.text or "", below=tag == "sub"))

    def block(self, element: "_Element", tag: str) -> None:
        """Read an element that is a block of its own."""
        if tag == "head" and element.get("rend") is None:  # not a trafilatura heading, which has `rend`
            return
        level = HEADINGS.get(element.get("rend") if tag == "head" else tag)
        if level:
            if text := self.text_in(element):
                self.blocks.append(Block(text, level))
        elif tag in ("pre", "listing", "xmp", "code"):
            for line_break in element.iter("br", "lb"):
                line_break.text = "\n"
            if code := "".join(element.itertext()).strip("\r\n").expandtabs():
                self.blocks.append(Block(code))
        elif tag == "table":
            self.table(element)
        elif tag in ("ul", "ol", "menu", "dir", "list"):
            self.items(element, ordered=tag == "ol")
        elif tag == "dl":
            self.definitions(element)
        else:
            self.inside(element)

    def parts_in(self, element: "_Element") -> list[Block]:
        """The blocks inside an element, without adding them to this walk's."""
        blocks, line = self.blocks, self.line
        self.blocks, self.line = [], []
        self.inside(element)
        self.flush()
        parts, self.blocks, self.line = self.blocks, blocks, line
        return parts

    def text_in(self, element: "_Element") -> str:
        """The text inside an element as one line."""
        return " ".join(" ".join(block.text for block in self.parts_in(element)).split())

    def items(self, element: "_Element", ordered: bool) -> None:
        """Add a list: one block if each item is a line (with lists inside), else a block for each part."""
        items, number = [], int(element.get("start") or 1) if ordered else 0
        for child in element:
            if parts := self.parts_in(child) if isinstance(child.tag, str) else []:
                mark = f"{number}. " if ordered else "- "
                first, *others = parts
                items.append([Block(mark + first.text)])
                for part in others:
                    if _LIST_LINE.match(part.text) and len(items[-1]) == 1:
                        nested = "\n".join(f"  {line}" for line in part.text.split("\n"))
                        items[-1][0] = Block(f"{items[-1][0].text}\n{nested}")
                    else:
                        items[-1].append(part)
                number += 1
        if all(len(item) == 1 for item in items):
            self.blocks.append(Block("\n".join(item[0].text for item in items)))
        else:
            self.blocks += [part for item in items for part in item]

    def definitions(self, element: "_Element") -> None:
        """Add terms, each with the first block of its definition below it."""
        terms: list[str] = []
        for child in element.iter("dt", "dd"):
            if next(child.iterancestors("dl")) is not element:
                continue
            if child.tag == "dt":
                terms.append(self.text_in(child))
            elif parts := self.parts_in(child):
                self.blocks.append(Block("\n".join([*filter(None, terms), parts[0].text])))
                self.blocks += parts[1:]
                terms = []
        self.blocks += [Block(term) for term in terms if term]

    def table(self, element: "_Element") -> None:
        """Add a table: one line per row, with | between cells; a table for layout adds only its content."""
        rows = [row for row in element.iter("tr", "row") if _table_of(row) is element]
        cells = [[cell for cell in row if cell.tag in ("td", "th", "cell")] for row in rows]
        inner = [part for part in element.iter("table", "h1", "h2", "h3") if part is not element]
        if inner or max(map(len, cells), default=0) < 2:
            for row in cells:
                for cell in row:
                    self.inside(cell)
                    self.flush()
            return
        for caption in element.iter("caption"):
            self.inside(caption)
            self.flush()
        lines = [" | ".join(self.text_in(cell) for cell in row).strip() for row in cells]
        self.blocks.append(Block("\n".join(line for line in lines if line.strip(" |"))))


def _table_of(row: "_Element") -> "_Element | None":
    return next(row.iterancestors("table"), None)


def _is_aside(element: "_Element") -> bool:
    """Whether an element isn't part of the text: a menu, a hidden element, and so on."""
    if (
        element.get("role") in ROLES
        or element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
    ):
        return True
    style, classes = element.get("style"), element.get("class")
    if style and re.search(r"display\s*:\s*none", style):
        return True
    return bool(classes and not CLASSES.isdisjoint(classes.lower().split()))
