"""Readers cut works, check names and contents, and read any file within limits of time and memory."""

import gzip
import io
import random
import re
import zipfile

import pytest
from manuals import (
    PAGE,
    docx_of,
    epub_of,
    html_of,
    manual,
    reportlab_pdf,
    sentence,
    text_of,
    zipped,
)
from manuals import (
    reading as started,
)

from cpt.corpus import works
from cpt.corpus.own_files import matching_files
from cpt.corpus.readers import READERS, format_of
from cpt.corpus.readers.base import Block, Work
from cpt.corpus.reading import ReadingProcess
from cpt.errors import UserError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    with started(tmp_path_factory.mktemp("files")) as read:
        yield read


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
    documents = works.cut(Work([Block("Front"), *blocks], "The work"))
    assert [title for title, _ in documents] == ["The work", "B", "C"]  # short parts stay with the next one
    assert "\n\n".join(text for _, text in documents) == "\n\n".join(
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
        ("x.rst.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "can't be read to its end"),
    ],
)
def test_content_that_is_not_what_the_name_says(read, name, content, message):
    with pytest.raises(UserError, match=rf"{re.escape(name)}: {message}"):
        read(name, content)


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
    """The next file is read, whatever happens to a reader."""
    slow = "<div>" * 200 + "<p>word</p>" * 200_000
    (tmp_path / "slow.html").write_text(f"<html><body>{slow}</body></html>")
    (tmp_path / "next.txt").write_text("fine")
    with ReadingProcess() as process:
        process.read(tmp_path / "next.txt")  # start the process before the limit is set
        process.seconds = 0.7
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


def pdf_of_empty_pages(count: int) -> bytes:
    """A file whose page tree names one empty page `count` times."""
    parts = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {count}/Kids[{'3 0 R ' * count}]>>"]
    parts.append("<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>")
    content, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        places.append(f"{len(content):010d} 00000 n \n")
        content += f"{number} 0 obj\n{part}\nendobj\n".encode()
    table = f"xref\n0 4\n0000000000 65535 f \n{''.join(places)}trailer<</Size 4/Root 1 0 R>>\n"
    return content + f"{table}startxref\n{len(content)}\n%%EOF".encode()


def test_a_million_pages_end_with_a_message(tmp_path):
    (tmp_path / "x.pdf").write_bytes(pdf_of_empty_pages(10**6))
    with (
        ReadingProcess(seconds=5) as process,
        pytest.raises(UserError, match=r"x.pdf: it takes (longer|more)"),
    ):
        process.read(tmp_path / "x.pdf")


def test_books_that_name_a_page_over_and_over(read):
    """A page is read once; a name outside the archive never opens a file on this disk."""
    text = sentence(random.Random(0))
    book = zipfile.ZipFile(io.BytesIO(epub_of([f"<p>{text}</p>"])))
    members = {name: book.read(name).decode() for name in book.namelist()}
    members["OPS/book.opf"] = members["OPS/book.opf"].replace(
        '<itemref idref="c0"/>', '<itemref idref="c0"/>' * 9999
    )
    assert text_of(read("x.epub", zipped(members))) == text
    for name in ("/etc/passwd", "../../etc/passwd"):
        package = members["OPS/book.opf"].replace("chapter%200.xhtml", name)
        with pytest.raises(UserError, match=r"x.epub: a part of it is missing or damaged \(.*passwd"):
            read("x.epub", zipped({**members, "OPS/book.opf": package}))


def test_entities_of_word_files(read):
    """Entities that would expand to gigabytes are refused, and no file on this disk is read."""
    archive = zipfile.ZipFile(io.BytesIO(docx_of([("p", "TEXT")])))
    members = {name: archive.read(name).decode() for name in archive.namelist()}
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 9))
    laughs = f'<!DOCTYPE d [<!ENTITY e0 "ha">{entities}]>'
    outside = '<!DOCTYPE d [<!ENTITY e8 SYSTEM "file:///etc/passwd">]>'
    for formula in ("", '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"/>'):
        body = members["word/document.xml"].replace("TEXT", "&e8;").replace("</w:p>", f"{formula}</w:p>")
        with pytest.raises(UserError, match=r"x.docx: it is damaged"):
            read("x.docx", zipped({**members, "word/document.xml": laughs + body}))
        if formula:
            with pytest.raises(UserError, match=r"x.docx: it is damaged"):
                read("x.docx", zipped({**members, "word/document.xml": outside + body}))
        else:
            assert read("x.docx", zipped({**members, "word/document.xml": outside + body})).documents == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tex", "a" + " " * 10**5 + "\\item" * 10),
        ("x.tex", "a\\footnote{b} " * 1000),
        ("x.tex", "\\begin{itemize}\\item a" * 500),
        ("x.rst", (" " * 10**5 + "x\n") * 5),
        ("x.rst", "+-+\n== ==\n" * 5000),
        ("x.md", "[" * 20_000 + "]" * 20_000),
        ("x.1", ".TH A 1\n.de xx\n.xx a\n.xx b\n..\n.xx\n"),
        ("x.html", "<html><body>" + "<ul><li>a" * 100),
    ],
    ids=["spaces", "notes", "lists", "indented", "rules", "brackets", "macros", "nested lists"],
)
def test_patterns_that_take_long(tmp_path, name, content):
    """Reading time doesn't grow with the square of the text's length, whatever the text is."""
    (tmp_path / name).write_text(content)
    with ReadingProcess(seconds=60) as process:
        process.read(tmp_path / name)


@pytest.mark.parametrize("kind", [kind for kind, reader in READERS.items() if reader.format != "txt"])
def test_damage_of_any_kind_is_named(read, kind):
    """A good file with random changes is read, or refused with its name."""
    whole = {"pdf": reportlab_pdf(manual(5, 1)), "docx": docx_of(manual(5, 1)), "epub": epub_of(["<p>a</p>"])}
    content = whole.get(kind, PAGE.format(html_of(manual(5, 1))).encode())
    chance = random.Random(0)
    name = f"x{READERS[kind].endings[0]}"
    for _ in range(12):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            work = read(name, bytes(damaged[: chance.choice([len(damaged), len(damaged) // 2])]))
        except UserError as error:
            assert f"/{name}: " in str(error)
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


def test_files_that_systems_leave_in_folders_are_skipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Thumbs.db", "desktop.ini", "~$report.docx", "._a.md", ".DS_Store", "a.md"):
        (tmp_path / name).touch()
    assert matching_files(["**/*"], "corpora.own.files") == ["a.md"]


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
    assert " .1 .2 " not in str(raised.value)


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
    for pattern, paths in (
        ("[2024] reports/*.md", ["[2024] reports/a.md", "[2024] reports/b.md"]),
        ("[2-3] reports/*.md", ["2 reports/a.md"]),
        ("*/[x]/**/*.md", ["deep/[x]/y/c.md"]),
        ("a[12].txt", ["a1.txt"]),
        ("**/c.md", ["deep/[x]/y/c.md", "deep/x/y/c.md"]),
    ):
        assert matching_files([pattern], "files") == paths


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
