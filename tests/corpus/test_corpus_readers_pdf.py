"""PDF files from several programs: the reader returns the known text."""

import io
import random

import pytest
from manuals import (
    CODE,
    MOST_CHANGED,
    changed,
    expected,
    handbook,
    manual,
    picture,
    reading,
    reportlab_pdf,
    sentence,
    text_of,
    typst_pdf,
)
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from cpt.errors import UserError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    with reading(tmp_path_factory.mktemp("files")) as read:
        yield read


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
    """Page headers, page numbers, hyphens and line breaks are removed; code and tables keep their lines."""
    parts = manual()
    work = read("manual.pdf", typst_pdf(parts, tmp_path, style))
    assert changed(expected(parts), text_of(work)) < MOST_CHANGED
    assert [title for title, _ in work.documents] == [value for kind, value in parts if kind == "h1"]
    assert f"\n{CODE}\n" in text_of(work)
    assert "The Handbook" not in text_of(work)


def test_pdf_of_reportlab(read):
    parts = manual(1)
    work = read("manual.PDF", reportlab_pdf(parts))
    assert changed(expected(parts), text_of(work)) < MOST_CHANGED
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


def test_a_file_with_a_password_is_refused(read):
    from reportlab.lib.pdfencrypt import StandardEncryption

    output = io.BytesIO()
    canvas = Canvas(output, encrypt=StandardEncryption("secret"))
    canvas.drawString(72, 500, "hidden")
    canvas.save()
    with pytest.raises(UserError, match=r"x.pdf: it can't be opened .*: name a copy without a password"):
        read("x.pdf", output.getvalue())


@pytest.mark.parametrize(
    "style",
    ["", "#set page(columns: 2)", "#set table(align: horizon)", "#set table(stroke: none, align: center)"],
    ids=["justified", "two columns", "cells in the middle", "cells without lines"],
)
def test_terms_lists_and_tables_of_typst(read, tmp_path, style):
    """A definition stays with its term; the lines of a cell are joined, then the cells of a row, in order."""
    parts = handbook()
    if "columns: 2" in style:  # too narrow for tables
        parts = [part for part in parts if part[0] != "table"]
    text = text_of(read("handbook.pdf", typst_pdf(parts, tmp_path, style)))
    assert changed(expected(parts, term=" "), text) < MOST_CHANGED
    for kind, value in parts:
        if kind == "terms" and "columns" not in style:  # a column may end with a sentence
            assert all(f"{term} {meaning}\n" in text for term, meaning in value)
        elif kind == "table":
            assert expected([(kind, value)]) in text


def test_terms_lists_and_tables_of_reportlab(read):
    parts = handbook(1)
    text = text_of(read("handbook.pdf", reportlab_pdf(parts)))
    assert changed(expected(parts, term=" "), text) < MOST_CHANGED
    assert all(expected([part]) in text for part in parts if part[0] == "table")


def test_what_is_no_table(read):
    """Text columns side by side and list items far from their marks have gaps as well."""
    output = io.BytesIO()
    canvas = Canvas(output)
    for number in range(8):
        for left, text in ((72, f"{number}."), (110, sentence(random.Random(number))[:60])):
            canvas.drawString(left, 700 - 14 * number, text)
        canvas.drawString(72, 500 - 14 * number, f"{sentence(random.Random(number))[:30]} and so on")
    for number in range(8):
        canvas.drawString(320, 500 - 14 * number, f"{sentence(random.Random(-number))[:30]} and so on")
    canvas.save()
    assert "|" not in text_of(read("x.pdf", output.getvalue()))


def test_raised_signs_of_pdf(read):
    """A raised 6 stays a power: 10⁶ doesn't become 106."""
    output = io.BytesIO()
    styles = getSampleStyleSheet()
    text = "About 10<super>6</super> of H<sub>2</sub>O, as the 1<super>st</super> note says.<super>12</super>"
    SimpleDocTemplate(output).build([Paragraph(text, styles["BodyText"])])
    assert text_of(read("x.pdf", output.getvalue())) == "About 10⁶ of H₂O, as the 1st note says.¹²"


def test_spaces_in_code_of_pdf(read, tmp_path):
    code = "Package: base  (essential)\nVersion:   1.0\n\n -- A name <a@b>  Mon, 1 Jan"
    text = text_of(read("x.pdf", typst_pdf([("p", "Text."), ("code", code)], tmp_path)))
    assert text.endswith(code)
