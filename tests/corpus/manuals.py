# ruff: noqa: SIM905
"""Made-up manuals as files of several formats, and the text that a reader should extract from them."""

import difflib
import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typst
from PIL import Image
from reportlab.lib.pagesizes import letter
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.platypus import ListFlowable, ListItem, Paragraph, Preformatted, SimpleDocTemplate, Table

from cpt.corpus.reading import ReadingProcess, ReadWork

MOST_CHANGED = 0.01  # of the characters
CODE = "def area(width, height):\n    if width < 0:\n        raise ValueError(width)\n\n    return width"
WORDS = """model training learning corpus document sentence evaluation measure gradient rate schedule language
    held text continued small share domain general forgetting optimizer memory sequence token
    packing warmup cosine budget result experiment benchmark question answer interval difference
    baseline reference selection""".split()


def sentence(chance: random.Random) -> str:
    words = chance.choices(WORDS, k=chance.randint(6, 22))
    words[1] = chance.choice([words[1], "well-known", "state-of-the-art", "US-ASCII"])
    return f"{' '.join(words).capitalize()}."


def manual(seed: int = 0, chapters: int = 6) -> list[tuple[str, object]]:
    """Parts of a made-up manual: headings, paragraphs, code, lists and tables."""
    chance = random.Random(seed)
    parts: list[tuple[str, object]] = []
    for chapter in range(chapters):
        parts.append(("h1", f"{chance.choice(WORDS).title()} and {chance.choice(WORDS)}, part {chapter + 1}"))
        for section in range(3):
            parts.append(("h2", f"{chance.choice(WORDS).title()} of {chance.choice(WORDS)}"))
            for _ in range(3):
                parts.append(("p", " ".join(sentence(chance) for _ in range(chance.randint(2, 7)))))
            if section == 0:
                parts.append(("code", CODE))
            elif section == 1:
                parts.append(("list", [sentence(chance) for _ in range(4)]))
            else:
                rows = [[*chance.choices(WORDS, k=2), str(chance.randint(1, 99))] for _ in range(4)]
                parts.append(("table", [["Name", "Meaning", "Value"], *rows]))
    return parts


def handbook(seed: int = 0) -> list[tuple[str, object]]:
    """Parts that `manual` lacks: definitions of terms, lists in lists, and tables with long cells."""
    chance = random.Random(seed)
    parts: list[tuple[str, object]] = []
    for chapter in range(4):
        parts.append(("h1", f"Workflow of {chance.choice(WORDS)}, part {chapter + 1}"))
        parts.append(
            ("p", f"An efficient office affixes waffles. {' '.join(sentence(chance) for _ in range(4))}")
        )
        terms = [chance.choice(WORDS).title(), f"{chance.choice(WORDS).title()} of {chance.choice(WORDS)}"]
        parts.append(("terms", [(term, " ".join(sentence(chance) for _ in range(3))) for term in terms]))
        parts.append(("p", sentence(chance)))
        parts.append(("nested", [(sentence(chance), [sentence(chance), sentence(chance)]) for _ in range(2)]))
        parts.append(("p", " ".join(sentence(chance) for _ in range(3))))
        rows = [
            [chance.choice(WORDS), f"{sentence(chance)} {sentence(chance)}", f"{chance.randint(1, 99)} files"]
        ]
        rows += [[*chance.choices(WORDS, k=2), ""], [chance.choice(WORDS), sentence(chance), "none"]]
        parts.append(("table", [["Name", "Meaning", "Value"], *rows]))
    return [*parts, ("code", CODE)]


def expected(parts: list[tuple[str, object]], term: str = "\n") -> str:
    """The text that a reader should extract; `term` separates a term from its definition."""
    lines = {
        "list": lambda items: "\n".join(f"- {item}" for item in items),
        "table": lambda rows: "\n".join(" | ".join(row).strip() for row in rows),
        "terms": lambda terms: "\n\n".join(term.join(each) for each in terms),
        "nested": lambda items: "\n".join("\n  - ".join([f"- {item}", *inner]) for item, inner in items),
    }
    return "\n\n".join(lines.get(kind, str)(value) for kind, value in parts)


def changed(original: str, actual: str) -> float:
    """The share of characters that differ, counted in words and line breaks."""
    before, after = (re.findall(r"\n|\S+", text) for text in (original, actual))
    different = sum(
        max(sum(map(len, before[a:b])), sum(map(len, after[c:d])))
        for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if kind != "equal"
    )
    return different / sum(map(len, before))


@contextmanager
def reading(folder: Path) -> Iterator[Callable[[str, bytes | str], ReadWork]]:
    """read(name, content) returns what the readers extract from a file."""
    with ReadingProcess() as process:

        def read(name: str, content: bytes | str) -> ReadWork:
            path = folder / name
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            return process.read(path)

        yield read


def text_of(work) -> str:
    return "\n\n".join(text for _, text in work.documents)


TYPST = """#set page(paper: "a4", header: [The Handbook #h(1fr) Draft 3],
  footer: context align(center, counter(page).display()))
#set text(lang: "en", hyphenate: true)
#set par(justify: true)
"""


def typst_pdf(parts, folder, style="") -> bytes:
    text = TYPST + style + "\n"
    for kind, value in parts:
        if kind in ("h1", "h2"):
            text += "=" * int(kind[1]) + f" {value}\n"
        elif kind == "p":
            text += f"{value}\n\n"
        elif kind == "code":
            text += f"```\n{value}\n```\n"
        elif kind == "list":
            text += "".join(f"- {item}\n" for item in value) + "\n"
        elif kind == "terms":
            text += "".join(f"/ {term}: {meaning}\n" for term, meaning in value) + "\n"
        elif kind == "nested":
            for item, inner in value:
                text += f"- {item}\n" + "".join(f"  - {each}\n" for each in inner)
            text += "\n"
        else:
            text += "#table(columns: 3, " + ", ".join(f"[{cell}]" for row in value for cell in row) + ")\n"
    (folder / "manual.typ").write_text(text)
    return typst.compile(str(folder / "manual.typ"))


TERM = ParagraphStyle("term", fontSize=10, leading=12, leftIndent=30, firstLineIndent=-30, spaceAfter=6)


def reportlab_pdf(parts) -> bytes:
    styles, flow = getSampleStyleSheet(), []
    for kind, value in parts:
        if kind in ("h1", "h2", "p"):
            style = {"h1": "Heading1", "h2": "Heading2", "p": "BodyText"}[kind]
            flow.append(Paragraph(value, styles[style]))
        elif kind == "code":
            flow.append(Preformatted(value, styles["Code"]))
        elif kind == "terms":
            for term, meaning in value:
                flow.append(Paragraph(f"<b>{term}</b> {meaning}", TERM))
        elif kind == "nested":
            items = [
                [
                    Paragraph(item, styles["BodyText"]),
                    ListFlowable(
                        [ListItem(Paragraph(each, TERM)) for each in inner], bulletType="bullet", start="•"
                    ),
                ]
                for item, inner in value
            ]
            flow.append(ListFlowable(items, bulletType="bullet", start="•"))
        elif kind == "list":
            items = [ListItem(Paragraph(item, styles["BodyText"])) for item in value]
            flow.append(ListFlowable(items, bulletType="bullet", start="•"))
        else:
            cells = [[Paragraph(cell, styles["BodyText"]) for cell in row] for row in value]
            flow.append(Table(cells if max(map(len, value[1])) > 40 else value))

    def margins(canvas, document):
        canvas.drawString(72, letter[1] - 40, f"The Handbook - {canvas.getPageNumber()}")
        canvas.drawCentredString(300, 30, f"Page {canvas.getPageNumber()} of 20")

    output = io.BytesIO()
    SimpleDocTemplate(output, pagesize=letter).build(flow, onFirstPage=margins, onLaterPages=margins)
    return output.getvalue()


def picture():
    return Image.new("RGB", (4, 4))


PAGE = """<!DOCTYPE html><html><head><title>Manual</title><style>p {{}}</style></head><body>
<nav><ul><li><a href="a">Home</a></li><li><a href="b">Next</a></li></ul></nav>
<div class="navheader">Prev Up Next</div>{}<footer>Copyright</footer></body></html>"""


def html_of(parts) -> str:
    text = ""
    for kind, value in parts:
        if kind == "code":
            text += f"<pre>{value.replace('<', '&lt;')}</pre>"
        elif kind == "list":
            text += "<ul>" + "".join(f"<li><p>{item}</p></li>" for item in value) + "</ul>"
        elif kind == "terms":
            text += (
                "<dl>" + "".join(f"<dt>{term}</dt><dd><p>{each}</p></dd>" for term, each in value) + "</dl>"
            )
        elif kind == "nested":
            inside = [(item, "".join(f"<li>{each}</li>" for each in inner)) for item, inner in value]
            text += "<ul>" + "".join(f"<li>{item}<ul>{inner}</ul></li>" for item, inner in inside) + "</ul>"
        elif kind == "table":
            rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in value)
            text += "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
        else:
            text += f"<{kind}>{value.replace(' ', chr(10), 3)}</{kind}>\n"
    return text


def epub_of(chapters: list[str], **members: str) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        container = (
            '<container xmlns="urn:x"><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
        )
        archive.writestr("META-INF/container.xml", container)
        items = "".join(
            f'<item id="c{n}" href="chapter%20{n}.xhtml" media-type="application/xhtml+xml"/>'
            for n in range(len(chapters))
        )
        order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
        package = f"<manifest>{items}</manifest><spine>{order}</spine>"
        package = f'<package xmlns="urn:y"><metadata><title>The Book</title></metadata>{package}</package>'
        archive.writestr("OPS/book.opf", package)
        for number, chapter in enumerate(chapters):
            page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{chapter}</body></html>'
            archive.writestr(f"OPS/chapter {number}.xhtml", page)
        for name, content in members.items():
            archive.writestr(name, content)
    return output.getvalue()


def zipped(members: dict[str, str]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return output.getvalue()


def formula_part(name: str, **parts: str) -> str:
    """An element of a Word formula with its parts."""
    return (
        f"<m:{name}>" + "".join(f"<m:{key}>{each}</m:{key}>" for key, each in parts.items()) + f"</m:{name}>"
    )


SIGNS = {sign: f"<m:r><m:t>{sign}</m:t></m:r>" for sign in ("i", "=1", "n", "x", "2", "a", "+b")}
FORMULA = formula_part(
    "nary",
    naryPr='<m:chr m:val="∑"/>',
    sub=SIGNS["i"] + SIGNS["=1"],
    sup=SIGNS["n"],
    e=formula_part(
        "f",
        num=formula_part("sSubSup", e=SIGNS["x"], sub=SIGNS["i"], sup=SIGNS["2"]),
        den=SIGNS["a"] + SIGNS["+b"],
    ),
)
FORMULA = f"<w:p><m:oMathPara><m:oMath>{FORMULA}</m:oMath></m:oMathPara></w:p>"


def docx_of(parts) -> bytes:
    body = ""
    for kind, value in parts:
        if kind == "table":
            rows = "".join(
                "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) + "</w:tr>"
                for row in value
            )
            body += f"<w:tbl>{rows}</w:tbl>"
        elif kind == "list":
            body += "".join(paragraph(item, level=0) for item in value)
        elif kind == "nested":
            for item, inner in value:
                body += paragraph(item, level=0) + "".join(paragraph(each, level=1) for each in inner)
        elif kind == "formula":
            body += FORMULA
        elif kind == "terms":
            for term, meaning in value:
                body += paragraph(term, "DefinitionTerm") + paragraph(meaning, "Definition")
        else:
            style = {"h1": "Heading1", "h2": "Heading2", "code": "SourceCode"}.get(kind, "")
            body += paragraph(value, style)
    names = {"Heading1": "heading 1", "Heading2": "heading 2", "SourceCode": "Source Code"}
    names |= {"DefinitionTerm": "Definition Term", "Definition": "Definition"}
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in names.items()
    )
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    space += ' xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    level = "".join(f'<w:lvl w:ilvl="{n}"><w:numFmt w:val="bullet"/></w:lvl>' for n in range(2))
    numbering = f'<w:abstractNum w:abstractNumId="1">{level}</w:abstractNum>'
    numbering += '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    kinds = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    related = "".join(
        f'<Relationship Id="r{n}" Type="{kinds}/{kind}" Target="{kind}.xml"/>'
        for n, kind in enumerate(("styles", "numbering"))
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        override = f'<Override PartName="/word/document.xml" ContentType="{main}"/>'
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types">{override}</Types>')
        document = f'<Relationship Id="r" Type="{kinds}/officeDocument" Target="word/document.xml"/>'
        archive.writestr(
            "_rels/.rels", f'<Relationships xmlns="{package}/relationships">{document}</Relationships>'
        )
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{package}/relationships">{related}</Relationships>',
        )
        archive.writestr("word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>")
        archive.writestr("word/styles.xml", f"<w:styles {space}>{styles}</w:styles>")
        archive.writestr("word/numbering.xml", f"<w:numbering {space}>{numbering}</w:numbering>")
    return output.getvalue()


def paragraph(text: str, style: str = "", level: int | None = None) -> str:
    about = f'<w:pStyle w:val="{style}"/>' if style else ""
    if level is not None:
        about += f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="1"/></w:numPr>'
    lines = "<w:br/>".join(
        f'<w:t xml:space="preserve">{line.replace("<", "&lt;")}</w:t>' for line in text.split("\n")
    )
    return f"<w:p><w:pPr>{about}</w:pPr><w:r>{lines}</w:r></w:p>"
