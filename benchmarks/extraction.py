"""Documents per second on one core: our readers beside the libraries alone.

Makes HTML pages and PDF files of known text (or reads those of `--folder`), and prints a table: for each
reader documents per second of processor time, the share of the library's speed, and peak memory of the
reading process.

    .venv/bin/python benchmarks/extraction.py [--folder FOLDER] [--files 200]
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "corpus")]

from cpt.corpus.readers import READERS, format_of  # noqa: E402
from cpt.corpus.reading import ReadingProcess  # noqa: E402


def with_trafilatura(content: bytes) -> None:
    """A page's text by trafilatura alone."""
    import trafilatura

    trafilatura.extract(content)


def with_pdfium(content: bytes) -> None:
    """All pages' text by PDFium alone."""
    import pypdfium2

    document = pypdfium2.PdfDocument(content)
    for page in document:
        text_page = page.get_textpage()
        text_page.get_text_range()
        text_page.close()
        page.close()
    document.close()


def with_pypdf(content: bytes) -> None:
    """All pages' text by pypdf alone, which the lock doesn't have: pip install pypdf."""
    import io

    import pypdf

    for page in pypdf.PdfReader(io.BytesIO(content)).pages:
        page.extract_text()


ALONE = {"html": {"trafilatura": with_trafilatura}, "pdf": {"pdfium": with_pdfium, "pypdf": with_pypdf}}


def seconds(read: Callable[[bytes], object], contents: list[bytes], rounds: int) -> float:
    """Processor time of the fastest of some rounds over all contents."""
    read(contents[0])  # libraries are imported
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for content in contents:
            read(content)
        best = min(best, time.process_time() - start)
    return best


def made(folder: Path, files: int) -> list[Path]:
    """Pages and PDF files of made-up manuals."""
    from test_corpus_readers import PAGE, html_of, manual, typst_pdf

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


def main() -> None:
    """Read the command line, make or find the files, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="with files to read (default: made-up manuals)")
    parser.add_argument("--files", type=int, default=100, help="of each format, at most")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.folder is None:
            paths = made(Path(folder), options.files)
        else:
            paths = sorted(path for path in options.folder.rglob("*") if format_of(path.name) in ALONE)
            random.Random(0).shuffle(paths)
            paths = [
                p for kind in ALONE for p in [q for q in paths if format_of(q.name) == kind][: options.files]
            ]
        compare(paths, options.rounds)


if __name__ == "__main__":
    main()
