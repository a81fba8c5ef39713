"""The files that a paper needs, and the text of the paper and its figures."""

import json
import re
from pathlib import Path
from typing import Any

import typst
from report_experiment import CLAIMS, PUBLISHED, REPOSITORY

RESULTS = ("scores", "comparisons", "letters", "answers", "touched", "claims", "runs")
NOTHING: tuple[dict, list] = ({"runs": [], "ledgers": []}, [])  # no runs, mixtures and figures


def required(root: Path) -> dict[str, Path]:
    """The files that every paper needs, by their name next to the template."""
    return {
        "paper.typ": REPOSITORY / "paper" / "paper.typ",
        "references.bib": REPOSITORY / "paper" / "references.bib",
        "published.csv": PUBLISHED,
        "claims.yaml": CLAIMS,
        "config.yaml": root / "config.yaml",
        **{f"{name}.csv": root / f"{name}.csv" for name in RESULTS},
        "answers.md": root / "answers.md",
        "base.json": root / "models" / "base.json",
        "statistics.csv": root / "corpora" / "statistics.csv",
    }


def lists(root: Path) -> dict[str, list[Path]]:
    return {
        "runs": [root / "runs" / name / "run.json" for name in ("cpt-10K", "cpt-25K")],
        "ledgers": [root / "packed" / "domain" / "ledger.json"],
    }


def figures(folder: Path) -> list[Path]:
    """Write a stand-in picture for each figure; return the files."""
    names = [*(f"figure{number}" for number in range(1, 7)), "answers", "exam"]
    files = [folder / f"{name}.svg" for name in names]
    for file in files:
        file.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
    return files


def texts(content: Any) -> str:
    """All text in typst content as `typst.query` returns it."""
    if isinstance(content, dict):
        return content.get("text", "") + "".join(texts(value) for value in content.values())
    if isinstance(content, list):
        return " ".join(texts(value) for value in content)
    return ""


# Numbers in references, headings and names: no result gives them.
NAMES = r"\[ *\d+ *\]|(Table|Figure|Section)[\s\xa0]*\d+|MobileLLM-125M|SmolLM2-135M|xxh3_128"


def text_of(folder: Path) -> str:
    """All paragraphs, lists and figures, without the numbers of references, headings and captions."""
    source = str(folder / "paper.typ")
    parts = []
    for element in ("par", "list", "figure"):
        contents = json.loads(typst.query(source, element, root=str(folder), ignore_system_fonts=True))
        parts += [texts(content) for content in contents]
    return re.sub(NAMES, " ", " ".join(parts))


def figures_of(folder: Path) -> str:
    contents = typst.query(str(folder / "paper.typ"), "figure", root=str(folder), ignore_system_fonts=True)
    return texts(json.loads(contents))


def pages_of(folder: Path) -> int:
    source = str(folder / "paper.typ")
    pages = typst.compile(source, root=str(folder), format="svg", ignore_system_fonts=True)
    return len(pages) if isinstance(pages, list) else 1
