"""Web pages, e-books and Word files: the reader returns the known text."""

import gzip
import random

import pytest
from manuals import (
    PAGE,
    WORDS,
    docx_of,
    epub_of,
    expected,
    handbook,
    html_of,
    manual,
    reading,
    sentence,
    text_of,
)

from cpt.errors import UserError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    with reading(tmp_path_factory.mktemp("files")) as read:
        yield read


@pytest.mark.parametrize("name", ["x.html", "x.HTM", "x.xhtml", "x.html.gz"])
def test_html(read, name):
    parts = manual(2, chapters=3)
    content = PAGE.format(html_of(parts)).encode()
    work = read(name, gzip.compress(content) if name.endswith("gz") else content)
    assert text_of(work) == expected(parts)


def test_html_with_much_around_its_text(read):
    """trafilatura finds menus that no markup declares."""
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


def test_epub(read):
    parts = manual(3)
    starts = [n for n, (kind, _) in enumerate(parts) if kind == "h1"]
    chapters = [parts[a:b] for a, b in zip(starts, [*starts[1:], len(parts)], strict=True)]
    # An entity that XML doesn't know makes the page HTML; empty elements must not swallow what follows.
    work = read("x.epub", epub_of([f'<a id="x"/><p>&nbsp;</p>{html_of(chapter)}' for chapter in chapters]))
    assert text_of(work) == expected(parts)
    assert [title for title, _ in work.documents] == [chapter[0][1] for chapter in chapters]


def test_docx(read):
    parts = manual(4)
    work = read("x.docx", docx_of(parts))
    assert text_of(work) == expected(parts)
    assert len(work.documents) == 6


@pytest.mark.parametrize("kind", ["html", "epub", "docx"])
def test_terms_lists_and_tables(read, kind):
    parts = handbook()
    pages = {"html": lambda: PAGE.format(html_of(parts)), "epub": lambda: epub_of([html_of(parts)])}
    work = read(f"x.{kind}", pages.get(kind, lambda: docx_of(parts))())
    assert text_of(work) == expected(parts)


@pytest.mark.parametrize("kind", ["html", "epub"])
def test_signs_inside_words(read, kind):
    """Soft hyphens and ligatures leave no trace; powers and note marks don't join the number before them."""
    page = (
        "<p>An effi&#xad;cient office of 10<sup>6</sup> m<sup>2</sup>, H<sub>2</sub>O and the 1<sup>st</sup>."
        '<a href="#n1" id="m1"><sup>1</sup></a> As <a href="#n2">2</a> says'
        '<sup><a href="#n2">[2]</a></sup>.</p>'
        '<p id="n1">The first note. <a href="#m1">↩︎</a></p><pre>a\n  b\n\n   c</pre><p>o\ufb03ce</p>'
    )
    text = text_of(
        read(f"x.{kind}", epub_of([page]) if kind == "epub" else f"<html><body>{page}</body></html>")
    )
    assert text == (
        "An efficient office of 10⁶ m², H₂O and the 1st.[1] As 2 says[2].\n\nThe first note.\n\n"
        "a\n  b\n\n   c\n\noffice"
    )


def test_terms_in_terms(read):
    page = "<dl><div><dt>A</dt><dd>one<dl><div><dt>B</dt><dd>two</dd></div></dl></dd></div></dl>"
    assert text_of(read("x.html", f"<html><body>{page}</body></html>")) == "A\none\n\nB\ntwo"


def test_formulas(read):
    """MathML gives the LaTeX it was made from, or one line; a Word formula gives one line."""
    fraction = "<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac>"
    tex = r'<semantics><mi>a</mi><annotation encoding="application/x-tex">a_1</annotation></semantics>'
    page = f"<p>Of <math>{tex}</math> and <math>{fraction}<mo>=</mo><msqrt><mi>x</mi></msqrt></math>.</p>"
    assert text_of(read("x.xhtml", f"<html><body>{page}</body></html>")) == "Of $a_1$ and (a + b)/2 = √x."
    assert (
        text_of(read("x.docx", docx_of([("p", "Of"), ("formula", "n")]))) == "Of\n\n∑_(i=1)^n (x_i^2)/(a+b)"
    )


@pytest.mark.parametrize("name", ["x.html", "x.xhtml"])
def test_deeply_nested_pages(read, name):
    """Text after elements nested 300 deep is read; at 3,000, where libxml2 stops, the file is refused."""
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><body>{}inside{}<p>behind</p></body></html>'
    assert text_of(read(name, page.format("<div>" * 300, "</div>" * 300))) == "inside\n\nbehind"
    with pytest.raises(
        UserError, match=rf"{name}: its elements are nested too deeply to be read, 2,048 or more"
    ):
        read(name, page.format("<b>" * 3000, "</b>" * 3000))
