# ruff: noqa: SIM905
"""Readers: known text comes back, from several makers of each format; what isn't readable is named."""

import difflib
import gzip
import io
import json
import random
import re
import zipfile

import pytest
import typst
from reportlab.lib.pagesizes import letter
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import ListFlowable, ListItem, Paragraph, Preformatted, SimpleDocTemplate, Table

from cpt.corpus import reading, works
from cpt.corpus.own_files import matching_files
from cpt.corpus.readers import READERS, format_of
from cpt.corpus.readers.base import Block, Work
from cpt.corpus.reading import ReadingProcess
from cpt.errors import UserError

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


def expected(parts, cells=" | ") -> str:
    """The text that a reader should give."""
    lines = {"list": lambda items: "\n".join(f"- {item}" for item in items)}
    lines["table"] = lambda rows: "\n".join(cells.join(row) for row in rows)
    return "\n\n".join(lines.get(kind, str)(value) for kind, value in parts)


def changed(wanted: str, found: str) -> float:
    """The share of characters in words and line breaks that differ."""
    before, after = (re.findall(r"\n|\S+", text) for text in (wanted, found))
    different = sum(
        max(sum(map(len, before[a:b])), sum(map(len, after[c:d])))
        for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if kind != "equal"
    )
    return different / sum(map(len, before))


@pytest.fixture(scope="module")
def process():
    with ReadingProcess() as started:
        yield started


@pytest.fixture
def read(process, tmp_path):
    """read(name, content) gives what is read of a file."""

    def reading(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return process.read(path)

    return reading


def text_of(work) -> str:
    return "\n\n".join(text for _, text in work.documents)


# PDF

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
        else:
            text += "#table(columns: 3, " + ", ".join(f"[{cell}]" for row in value for cell in row) + ")\n"
    (folder / "manual.typ").write_text(text)
    return typst.compile(str(folder / "manual.typ"))


def reportlab_pdf(parts) -> bytes:
    styles, flow = getSampleStyleSheet(), []
    for kind, value in parts:
        if kind in ("h1", "h2", "p"):
            style = {"h1": "Heading1", "h2": "Heading2", "p": "BodyText"}[kind]
            flow.append(Paragraph(value, styles[style]))
        elif kind == "code":
            flow.append(Preformatted(value, styles["Code"]))
        elif kind == "list":
            items = [ListItem(Paragraph(item, styles["BodyText"])) for item in value]
            flow.append(ListFlowable(items, bulletType="bullet", start="•"))
        else:
            flow.append(Table(value))

    def margins(canvas, document):
        canvas.drawString(72, letter[1] - 40, f"The Handbook - {canvas.getPageNumber()}")
        canvas.drawCentredString(300, 30, f"Page {canvas.getPageNumber()} of 20")

    output = io.BytesIO()
    SimpleDocTemplate(output, pagesize=letter).build(flow, onFirstPage=margins, onLaterPages=margins)
    return output.getvalue()


@pytest.mark.parametrize(
    "style",
    [
        "",
        "#set page(columns: 2)",
        "#set par(first-line-indent: 1.5em, spacing: 0.65em)",
        '#set text(size: 9pt, font: "New Computer Modern")',
        "#set par(leading: 1.1em)",
    ],
    ids=["justified", "two columns", "indented", "another font", "wide"],
)
def test_pdf_of_typst(read, tmp_path, style):
    """Page headers, page numbers, hyphens and line breaks are undone; code and tables keep their lines."""
    parts = manual()
    work = read("manual.pdf", typst_pdf(parts, tmp_path, style))
    assert changed(expected(parts, " "), text_of(work)) < MOST_CHANGED
    assert [title for title, _ in work.documents] == [value for kind, value in parts if kind == "h1"]
    assert f"\n{CODE}\n" in text_of(work)
    assert "The Handbook" not in text_of(work)


def test_pdf_of_reportlab(read):
    parts = manual(1)
    work = read("manual.PDF", reportlab_pdf(parts))
    assert changed(expected(parts, " "), text_of(work)) < MOST_CHANGED
    assert len(work.documents) == 6
    assert "The Handbook" not in text_of(work)


def test_pages_without_text_are_listed(read):
    output = io.BytesIO()
    canvas = Canvas(output)
    for page in range(4):
        if page in (1, 2):
            canvas.drawString(72, 500, f"This is what page {page + 1} says.")
        if page != 3:  # a blank page lacks nothing
            canvas.drawInlineImage(picture(), 72, 72, 100, 100)
        canvas.showPage()
    canvas.save()
    work = read("scanned.pdf", output.getvalue())
    assert work.without_text == ["page 1", "page 2, figure 1", "page 3, figure 1"]
    assert text_of(work) == "This is what page 2 says.\n\nThis is what page 3 says."


def picture():
    from PIL import Image

    return Image.new("RGB", (4, 4))


# HTML and what is made of it

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
        elif kind == "table":
            rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in value)
            text += "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
        else:
            text += f"<{kind}>{value.replace(' ', chr(10), 3)}</{kind}>\n"
    return text


@pytest.mark.parametrize("name", ["x.html", "x.HTM", "x.xhtml", "x.html.gz"])
def test_html(read, name):
    parts = manual(2, chapters=3)
    content = PAGE.format(html_of(parts)).encode()
    work = read(name, gzip.compress(content) if name.endswith("gz") else content)
    assert text_of(work) == expected(parts)


def test_html_with_much_around_its_text(read):
    """Menus that nothing marks as such are found by trafilatura."""
    text = "".join(
        f"<p>{sentence(random.Random(n))} {sentence(random.Random(-n - 1))}</p>" for n in range(20)
    )
    menu = "".join(
        f'<div><a href="/{n}">Another page about {WORDS[n % len(WORDS)]} {n}</a></div>' for n in range(60)
    )
    work = read("x.html", f"<html><body><div>{menu}</div><article>{text}</article></body></html>")
    assert "Another page" not in text_of(work)
    assert text_of(work).count(".") == 40


def test_html_declares_its_encoding(read):
    page = '<html><head><meta charset="{}"></head><body><p>Où est le café ? Привет</p></body></html>'
    for encoding in ("utf-8", "windows-1251", "utf-16"):
        content = (
            page.format(encoding).replace("Où est le café ?", "") if encoding == "windows-1251" else page
        )
        work = read("x.html", content.format(encoding).encode(encoding))
        assert "Привет" in text_of(work)
        assert work.replaced == 0
    with pytest.raises(UserError, match=r"x.html: it is not UTF-8 .*; convert it: iconv"):
        read("x.html", page.format("utf-8").encode("koi8-r", errors="replace"))


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


def test_epub(read):
    parts = manual(3)
    starts = [n for n, (kind, _) in enumerate(parts) if kind == "h1"]
    chapters = [parts[a:b] for a, b in zip(starts, [*starts[1:], len(parts)], strict=True)]
    # An entity that XML doesn't know makes the page HTML; empty elements must not swallow what follows.
    work = read("x.epub", epub_of([f'<a id="x"/><p>&nbsp;</p>{html_of(chapter)}' for chapter in chapters]))
    assert text_of(work) == expected(parts)
    assert [title for title, _ in work.documents] == [chapter[0][1] for chapter in chapters]


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
            body += "".join(paragraph(item, numbered=True) for item in value)
        else:
            style = {"h1": "Heading1", "h2": "Heading2", "code": "SourceCode"}.get(kind, "")
            body += paragraph(value, style)
    names = {"Heading1": "heading 1", "Heading2": "heading 2", "SourceCode": "Source Code"}
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in names.items()
    )
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    level = '<w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>'
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


def paragraph(text: str, style: str = "", numbered: bool = False) -> str:
    about = f'<w:pStyle w:val="{style}"/>' if style else ""
    about += '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>' if numbered else ""
    lines = "<w:br/>".join(
        f'<w:t xml:space="preserve">{line.replace("<", "&lt;")}</w:t>' for line in text.split("\n")
    )
    return f"<w:p><w:pPr>{about}</w:pPr><w:r>{lines}</w:r></w:p>"


def test_docx(read):
    parts = manual(4)
    work = read("x.docx", docx_of(parts))
    assert text_of(work) == expected(parts)
    assert len(work.documents) == 6


# Text with marks


def test_rst(read):
    text = """Title of the page
=================

A paragraph whose lines were broken, with :func:`~numpy.mean` and ``code``,
and which continues here.

.. function:: area(width)

   What the function is for.

Section
-------

Example::

    if width < 0:
        pass

===== =====
Name  Value
===== =====
alpha 1
===== =====

.. image:: picture.png
"""
    work = read("x.rst", text)
    assert text_of(work) == (
        "Title of the page\n\nA paragraph whose lines were broken, with mean and code, and which continues "
        "here.\n\narea(width)\n\nWhat the function is for.\n\nSection\n\nExample:\n\n    if width < 0:\n"
        "        pass\n\n===== =====\nName  Value\n===== =====\nalpha 1\n===== ====="
    )
    assert work.documents[0][0] == "Title of the page"
    assert work.without_text == ["figure picture.png"]


def test_tex(read):
    text = r"""\documentclass{article} % a comment
\title{On \emph{forgetting}}
\begin{document}
\maketitle
\section{First}
A paragraph with a formula $x^2 + 1$, an \'e, 5\,\% and
a line that was broken. % not this
\begin{verbatim}
if width < 0:  % kept
    pass
\end{verbatim}
\subsection*{Lists}
\begin{itemize}
\item one
\item two
\end{itemize}
\begin{tabular}{lr}
\hline
Name & Value \\
alpha & 1 \\ \hline
\end{tabular}
\end{document}
"""
    assert text_of(read("x.tex", text)) == (
        "On forgetting\n\nFirst\n\nA paragraph with a formula $x^2 + 1$, an é, 5 % and a line that was "
        "broken.\n\nif width < 0:  % kept\n    pass\n\nLists\n\n- one\n- two\n\nName | Value\nalpha | 1"
    )
    assert "é" in text_of(read("y.tex", "\\usepackage[latin1]{inputenc}\ncafé".encode("latin-1")))


def test_manual_pages(read):
    man = r""".\" a comment
.TH AREA 1 2026-01-01
.SH NAME
area \- compute an area
.SH OPTIONS
.TP
.BR \-w ", " \-\-width =\fIN\fR
The width, in
meters.
.IP \(bu 2
first
.IP \(bu
second
.PP
See
.BR perimeter (1).
.nf
area --width 3
  | less
.fi
"""
    assert text_of(read("area.1", man)) == (
        "NAME\n\narea - compute an area\n\nOPTIONS\n\n-w, --width=N\nThe width, in meters.\n\n- first\n"
        "- second\n\nSee perimeter(1).\n\narea --width 3\n  | less"
    )
    mdoc = ".Dd May 1\n.Dt AREA 1\n.Sh NAME\n.Nm area\n.Nd compute\n.Sh SYNOPSIS\n"
    mdoc += ".Nm\n.Op Fl w Ar width\n.Xr ls 1 .\n"
    assert text_of(read("area.1bsd.gz", gzip.compress(mdoc.encode()))) == (
        "NAME\n\narea — compute\n\nSYNOPSIS\n\narea [-w width] ls(1)."
    )
    assert read("alias.3", ".so man3/area.3\n").documents == []
    with pytest.raises(UserError, match=r"notes.1: it doesn't begin like a manual page; rename or remove it"):
        read("notes.1", "Version one of my notes")


def test_notebooks(read):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Some text."]},
        {"cell_type": "code", "source": "x = 1\nprint(x)", "outputs": [{"text": "1"}]},
    ]
    assert (
        text_of(read("x.ipynb", json.dumps({"cells": cells}))) == "# Title\n\nSome text.\n\nx = 1\nprint(x)"
    )
    with pytest.raises(UserError, match=r"y.ipynb: it is no notebook"):
        read("y.ipynb", "[]")


def test_hard_wraps_of_plain_text(read):
    wrapped = (
        "This paragraph was broken to fit a width of some sixty columns or\nso, and no word of the next line "
        "would have fitted in there as\nfar as can be seen.\n\n- The first item of a list that is too long "
        "for one line so\n  that it continues below.\n- The second item.\n"
    )
    verse = "A line of a poem,\nanother one,\nnot broken to fit.\n"
    code = "int area(int width, int height, const char *message_to_print) {\n    return width * height;\n}\n"
    for name in ("x.txt", "x.md"):
        text = text_of(read(name, f"{wrapped}\n{verse}" if name == "x.md" else f"{wrapped}\n{verse}\n{code}"))
        assert text.startswith("This paragraph was broken to fit a width of some sixty columns or so, and no")
        assert "for one line so that it continues below.\n- The second item.\n" in text
        assert verse in text
        assert name == "x.md" or text.endswith(code)
    assert text_of(read("y.txt", verse + code)) == verse + code


# Works


def test_long_works_are_cut_at_their_headings(monkeypatch):
    monkeypatch.setattr(works, "LONGEST", 100)
    monkeypatch.setattr(works, "SHORTEST", 20)
    body = Block("x" * 60)
    blocks = [
        Block("Part", 1),
        Block("A", 2),
        body,
        Block("B", 2),
        body,
        Block("short", 3),
        Block("C", 2),
        body,
        body,
    ]
    found = works.cut(Work([Block("Front"), *blocks], "The work"))
    assert [title for title, _ in found] == ["The work", "B", "C"]  # short parts stay with what follows
    assert "\n\n".join(text for _, text in found) == "\n\n".join(
        block.text for block in [Block("Front"), *blocks]
    )
    assert works.cut(Work([body, body], "No headings")) == [("No headings", "\n\n".join(["x" * 60] * 2))]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.pdf",
            PAGE.format("<p>Not found</p>"),
            "its content is HTML, not PDF; rename the file by what it is",
        ),
        ("x.pdf", b"", "it is empty; fetch or make it again"),
        ("x.pdf", b"%PDF-1.7\n" + b"x" * 500, r"it can't be opened .*: it is damaged or cut short"),
        ("x.html", b"%PDF-1.7\n", "its content is PDF, not HTML"),
        ("x.docx", epub_of(["<p>a</p>"]), "its content is EPUB, not DOCX"),
        ("x.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "its content is Word before 2007, not DOCX"),
        ("x.epub", docx_of([]), "it is a Zip archive without META-INF/container.xml, so no EPUB; rename"),
        ("x.epub", epub_of(["<p>a</p>"])[:-40], "it is no complete Zip archive"),
        (
            "x.epub",
            epub_of(["a"], **{"META-INF/encryption.xml": "<a/>"}),
            "its pages are encrypted; name a copy",
        ),
        ("x.epub", zipped({"META-INF/container.xml": "<container>"}), "what lists its pages isn't XML"),
        (
            "x.epub",
            zipped({"META-INF/container.xml": "<container/>"}),
            "what lists its pages has no rootfile",
        ),
        (
            "x.epub",
            zipped({"META-INF/container.xml": '<rootfile full-path="a"/>'}),
            "a part of it is missing or",
        ),
        (
            "x.html",
            '<html><head><meta charset="klingon"></head></html>',
            "it names an unknown encoding, klingon",
        ),
        ("x.txt", b"\x89PNG\r\n\x1a\n", "its content is an image, not TXT"),
        ("x.md", b"PAR1abc", "its content is Parquet, not MD"),
        ("x.rst.gz", gzip.compress(b"text" * 99)[:-9], "can't be read to its end"),
    ],
)
def test_content_that_is_not_what_the_name_says(read, name, content, message):
    with pytest.raises(UserError, match=rf"{re.escape(name)}: {message}"):
        read(name, content)


def test_a_password_is_asked_for(read):
    from reportlab.lib.pdfencrypt import StandardEncryption

    output = io.BytesIO()
    canvas = Canvas(output, encrypt=StandardEncryption("secret"))
    canvas.drawString(72, 500, "hidden")
    canvas.save()
    with pytest.raises(UserError, match=r"x.pdf: it can't be opened .*: name a copy without a password"):
        read("x.pdf", output.getvalue())


# Limits


def bomb(size: int) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        with archive.open("page.xhtml", "w", force_zip64=True) as member:
            for _ in range(size // 2**20):
                member.write(bytes(2**20))
    return output.getvalue()


def test_bombs_end_with_a_message(read):
    with pytest.raises(UserError, match=r"x.epub: it would unpack to 300 MiB, more than the 256"):
        read("x.epub", bomb(300 * 2**20))
    with pytest.raises(UserError, match=r"x.txt.gz: it has more than 256 MiB when it is unpacked; split"):
        read("x.txt.gz", gzip.compress(bytes(300 * 2**20), 1))
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    laughs = (
        f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY e0 "ha">{entities}]><html><body>&e8;</body></html>'
    )
    assert len(text_of(read("x.xhtml", laughs))) < 1000


def test_limits_of_time_and_memory(tmp_path, monkeypatch):
    """Whatever happens to a reader, the next file is read."""
    slow = "<div>" * 200 + "<p>word</p>" * 200_000
    (tmp_path / "slow.html").write_text(f"<html><body>{slow}</body></html>")
    (tmp_path / "next.txt").write_text("fine")
    with ReadingProcess(seconds=0.7) as process:
        process.read(tmp_path / "next.txt")
        with pytest.raises(
            UserError, match=r"slow.html: it takes longer than 0.7 seconds to read; split or remove"
        ):
            process.read(tmp_path / "slow.html")
        process.seconds = 60
        assert text_of(process.read(tmp_path / "next.txt")) == "fine"
    (tmp_path / "large.txt").write_bytes(b"some words " * 2**24)
    with ReadingProcess(memory_bytes=300 * 2**20) as process:
        with pytest.raises(
            UserError, match=r"large.txt: it takes more memory than its reader may use; split"
        ):
            process.read(tmp_path / "large.txt")
        assert text_of(process.read(tmp_path / "next.txt")) == "fine"
        process.process.kill()
        with pytest.raises(UserError, match=r"next.txt: its reader failed \(signal SIGKILL\)"):
            process.read(tmp_path / "next.txt")
        assert text_of(process.read(tmp_path / "next.txt")) == "fine"


@pytest.mark.parametrize("kind", [kind for kind, reader in READERS.items() if reader.format != "txt"])
def test_damage_of_any_kind_is_named(process, tmp_path, kind):
    """Bytes of a good file, changed at random, are read or refused with the file's name."""
    whole = {"pdf": reportlab_pdf(manual(5, 1)), "docx": docx_of(manual(5, 1)), "epub": epub_of(["<p>a</p>"])}
    content = whole.get(kind, PAGE.format(html_of(manual(5, 1))).encode())
    chance = random.Random(0)
    path = tmp_path / f"x{READERS[kind].endings[0]}"
    for _ in range(12):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([len(damaged), len(damaged) // 2])])
        try:
            work = process.read(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert all(isinstance(text, str) for _, text in work.documents)


# Names


def test_formats_by_name():
    for name, kind in (
        ("a.PARQUET", "parquet"),
        ("a.jsonl.zst", "jsonl"),
        ("A.NDJSON.GZ", "jsonl"),
        ("a.txt.XZ", "txt"),
        ("ls.1", "man"),
        ("Net::HTTP.3pm.gz", "man"),
        ("a.7z", None),
        ("a.3gp", None),
        ("v1.2.0", None),
        ("a.gz", None),
        ("a.doc", None),
    ):
        assert format_of(name) == kind, name


def test_files_without_reader_are_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*(f"{n}.png" for n in range(1200)), "a.xyz", "b.xyz", "README", "c.md"]:
        (tmp_path / name).touch()
    with pytest.raises(UserError) as raised:
        matching_files(["*"], "corpora.own.files")
    assert (
        "corpora.own.files: no reader for 1,200 .png (0.png, 1.png, 10.png, ...), 2 .xyz (a.xyz, b.xyz)"
        in (str(raised.value))
    )


def test_a_name_is_not_a_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [
        "[2024] reports/a.md",
        "[2024] reports/b.md",
        "2 reports/a.md",
        "a[1].txt",
        "a1.txt",
        "x*.txt",
        "q?.txt",
    ]
    names += ["{{cookiecutter.slug}}/README.md", "notes {draft}.md", "deep/[x]/y/c.md", "deep/x/y/c.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in names:
        assert pattern in matching_files([pattern], "files"), pattern
        assert matching_files([str(tmp_path / pattern)], "files") == [str(tmp_path / pattern)]
    for pattern, found in (
        ("[2024] reports/*.md", ["[2024] reports/a.md", "[2024] reports/b.md"]),
        ("[2-3] reports/*.md", ["2 reports/a.md"]),
        ("*/[x]/**/*.md", ["deep/[x]/y/c.md"]),
        ("a[12].txt", ["a1.txt"]),
        ("**/c.md", ["deep/[x]/y/c.md", "deep/x/y/c.md"]),
    ):
        assert matching_files([pattern], "files") == found


def test_a_folder_is_not_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "x.parquet").mkdir(parents=True)
    (tmp_path / "data" / "x.parquet" / "part-0.parquet").touch()
    (tmp_path / "data" / "y.parquet").touch()
    for pattern in ("data/x.parquet", "data/*.parquet", "data/x.parquet/"):
        with pytest.raises(
            UserError, match=r"data/x.parquet is a folder; name the files in it, as in data/x.parq"
        ):
            matching_files([pattern], "files")
    with pytest.raises(UserError, match=r"data is a folder; name the files in it, as in data/\*\*/\*"):
        matching_files(["data"], "files")
    assert len(matching_files(["data/**/*"], "files")) == 2
    assert reading.MEMORY_BYTES <= 2**30
