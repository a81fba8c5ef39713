"""Documents per second on one core, our readers beside the libraries alone, and how much text survives.

It makes HTML pages and PDF files of known text (or reads those of `--folder`), and prints for each reader
documents per second of processor time, the share of the library's speed, and peak memory of the reading
process. With `--fidelity`, it makes files of every format from two manuals of known text (with typst,
ReportLab, and pandoc if it is installed), reads them, and prints the share of characters that differ, in
words and line breaks; `--differences` prints where.

    .venv/bin/python benchmarks/extraction.py [--folder FOLDER] [--files 200]
    .venv/bin/python benchmarks/extraction.py --fidelity [--differences]
"""

import argparse
import difflib
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "corpus")]

from cpt.corpus.readers import READERS, format_of  # noqa: E402
from cpt.corpus.reading import ReadingProcess  # noqa: E402
from cpt.corpus.works import cut  # noqa: E402


def with_trafilatura(content: bytes) -> None:
    """Extract a page's text with trafilatura alone."""
    import trafilatura

    trafilatura.extract(content)


def with_pdfium(content: bytes) -> None:
    """Extract all pages' text with PDFium alone."""
    import pypdfium2

    document = pypdfium2.PdfDocument(content)
    for page in document:
        text_page = page.get_textpage()
        text_page.get_text_range()
        text_page.close()
        page.close()
    document.close()


def with_pypdf(content: bytes) -> None:
    """Extract all pages' text with pypdf alone, which isn't in the lock: pip install pypdf."""
    import pypdf

    for page in pypdf.PdfReader(io.BytesIO(content)).pages:
        page.extract_text()


ALONE = {"html": {"trafilatura": with_trafilatura}, "pdf": {"pdfium": with_pdfium, "pypdf": with_pypdf}}


def seconds(read: Callable[[bytes], object], contents: list[bytes], rounds: int) -> float:
    """Returns the processor time of the fastest of `rounds` over all contents."""
    read(contents[0])  # imports the libraries
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for content in contents:
            read(content)
        best = min(best, time.process_time() - start)
    return best


def write_manuals(folder: Path, files: int) -> list[Path]:
    """Write pages and PDF files of made-up manuals; returns their paths."""
    from manuals import PAGE, html_of, manual, typst_pdf

    paths = []
    for number in range(files):
        page = folder / f"{number}.html"
        page.write_text(PAGE.format(html_of(manual(number, 1 + number % 3))))
        paths.append(page)
        if number % 10 == 0:
            paths.append(page.with_suffix(".pdf"))
            paths[-1].write_bytes(typst_pdf(manual(number), folder))
    return paths


def compare(paths: list[Path], rounds: int) -> None:
    """Print a line for each reader and for each library alone."""
    print("format,reader,documents_per_second,share_of_library,peak_megabytes")
    for kind in sorted({format_of(path.name) for path in paths}):
        mine = [path for path in paths if format_of(path.name) == kind]
        contents = [path.read_bytes() for path in mine]
        ours = seconds(READERS[kind].checked, contents, rounds)
        with ReadingProcess() as process:
            for path in mine:
                process.read(path)
            status = Path(f"/proc/{process.process.pid}/status").read_text()
            spent = sum(psutil.Process(process.process.pid).cpu_times()[:2])
        peak = next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM"))
        print(f"{kind},ours,{len(mine) / ours:.1f},,{peak:.0f}")
        print(f"{kind},ours with its process and start,{len(mine) / spent:.1f},,{peak:.0f}")
        for name, read in ALONE.get(kind, {}).items():
            try:
                alone = seconds(read, contents, rounds)
            except ImportError:
                continue
            print(f"{kind},{name} alone,{len(mine) / alone:.1f},{alone / ours:.2f},")


def markdown_of(parts: list[tuple[str, object]]) -> str:
    """Returns a manual in pandoc's Markdown."""
    text = ""
    for kind, value in parts:
        if kind in ("h1", "h2"):
            text += "#" * int(kind[1]) + f" {value}\n\n"
        elif kind == "code":
            text += f"```\n{value}\n```\n\n"
        elif kind == "list":
            text += "".join(f"- {item}\n" for item in value) + "\n"
        elif kind == "nested":
            text += "".join(
                f"- {item}\n" + "".join(f"    - {each}\n" for each in inner) for item, inner in value
            )
            text += "\n"
        elif kind == "terms":
            text += "".join(f"{term}\n\n:   {meaning}\n\n" for term, meaning in value)
        elif kind == "table":
            rows = [f"| {' | '.join(row)} |\n" for row in value]
            text += "".join([rows[0], "|---" * len(value[0]) + "|\n", *rows[1:]]) + "\n"
        else:
            text += f"{value}\n\n"
    return text


def with_pandoc(markdown: str, writer: str, path: Path, *options: str) -> bytes:
    """Returns the content of the file that pandoc makes from Markdown."""
    command = [
        "pandoc",
        "--standalone",
        "--from",
        "markdown",
        "--to",
        writer,
        "--output",
        str(path),
        *options,
    ]
    subprocess.run(command, input=markdown.encode(), check=True, stderr=subprocess.DEVNULL)
    return path.read_bytes()


def known_files(parts: list[tuple[str, object]], folder: Path) -> Iterator[tuple[str, str, bytes, str]]:
    """Yields ending, maker, content and expected text of files.

    Plain text and Markdown keep their marks: the expected text is pandoc's without wrapped lines. Tables with
    long cells are skipped there, as pandoc breaks their lines and readers keep the breaks, and in the PDF
    file with two columns.
    """
    from manuals import expected, reportlab_pdf, typst_pdf

    page_text = expected(parts, term=" ")
    yield "pdf", "typst", typst_pdf(parts, folder), page_text
    narrow = [part for part in parts if part[0] != "table" or max(map(len, part[1][1])) < 40]
    columns = typst_pdf(narrow, folder, "#set page(columns: 2)")
    yield "pdf", "typst, two columns", columns, expected(narrow, term=" ")
    yield "pdf", "ReportLab", reportlab_pdf(parts), page_text
    if not shutil.which("pandoc"):
        return
    markdown = markdown_of(parts)
    for ending, writer in (("html", "html"), ("epub", "epub"), ("docx", "docx"), ("rst", "rst")):
        yield ending, "pandoc", with_pandoc(markdown, writer, folder / f"x.{ending}"), expected(parts)
    for ending, writer in (("tex", "latex"), ("1", "man")):
        yield ending, "pandoc", with_pandoc(markdown, writer, folder / f"x.{ending}"), expected(parts)
    markdown = markdown_of(narrow)
    for ending, writer in (("txt", "plain"), ("md", "markdown"), ("ipynb", "ipynb")):
        whole = with_pandoc(markdown, writer, folder / f"whole.{ending}", "--wrap=none")
        if ending == "ipynb":
            cells = json.loads(whole)["cells"]
            whole = "\n\n".join("".join(cell["source"]).strip("\n") for cell in cells).encode()
        yield ending, "pandoc", with_pandoc(markdown, writer, folder / f"x.{ending}"), whole.decode().strip()


def fidelity(differences: bool) -> None:
    """Print the share of changed characters for each format and maker."""
    from manuals import changed, handbook, manual

    print("format,maker,text,changed_percent,megabytes_per_second")
    for name, parts in (("manual", manual()), ("terms lists tables", handbook())):
        with tempfile.TemporaryDirectory() as folder:
            for ending, maker, content, original in known_files(parts, Path(folder)):
                reader = READERS[format_of(f"x.{ending}")]
                duration = seconds(reader.checked, [content], 3)
                text = "\n\n".join(part.strip("\n") for _, part in cut(reader.checked(content)))
                percent = 100 * changed(original, text)
                print(f"{ending},{maker},{name},{percent:.2f},{len(text) / duration / 1e6:.1f}")
                if differences:
                    print_differences(original, text)


def print_differences(original: str, result: str) -> None:
    """Print where two texts differ, with the words before and after."""
    before, after = (re.findall(r"\n|\S+", text) for text in (original, result))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            lost, came = (
                " ".join(words) for words in (before[max(0, a - 3) : b + 2], after[max(0, c - 3) : d + 2])
            )
            print(f"  {lost!r} -> {came!r}")


def main() -> None:
    """Parse the command line, make or find the files, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="with files to read (default: made-up manuals)")
    parser.add_argument("--files", type=int, default=100, help="of each format, at most")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fidelity", action="store_true", help="how much of known text comes back, instead")
    parser.add_argument("--differences", action="store_true", help="with --fidelity: print them")
    options = parser.parse_args()
    if options.fidelity:
        fidelity(options.differences)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.folder is None:
            paths = write_manuals(Path(folder), options.files)
        else:
            paths = sorted(path for path in options.folder.rglob("*") if format_of(path.name) in ALONE)
            random.Random(0).shuffle(paths)
            paths = [
                p for kind in ALONE for p in [q for q in paths if format_of(q.name) == kind][: options.files]
            ]
        compare(paths, options.rounds)


if __name__ == "__main__":
    main()
