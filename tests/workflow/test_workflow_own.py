"""experiments/own.yaml, with a smaller model, turns a folder of mixed files into a model."""

import csv
import sys
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from project_copy import Project
from small_experiments import overlay

sys.path.append(str(Path(__file__).resolve().parents[1] / "corpus"))
from test_corpus_readers import PAGE, docx_of, epub_of, html_of, manual, reportlab_pdf, sentence

SMALL = {
    "base": {**overlay("smoke")["base"], "package": None, "version": None, "sha256": None, "file": None},
    "train": {"precision": "float32", "learning_rate": 1.0e-3, "held_out": {"every": 8_192, "tokens": 512}},
    "runs": {"cpt-own": {"tokens": 16_384, "cpus": 1}},
    "filters": overlay("smoke")["filters"],
    "held_out": {"share": 0.2},
    "corpora": {"own": {"unreadable": "skip"}},
}


def write_files(folder: Path) -> None:
    """Write a manual in every format, each with another order of words; names have brackets and braces."""
    texts = {
        f"notes {{draft}} {n}.md": "\n\n".join(str(v) for k, v in manual(n, 2) if k == "p") for n in range(3)
    }
    texts |= {"[2024] reports/a.txt": "\n".join(text for kind, text in manual(10, 2) if kind == "p")}
    body = "\n\n".join(text for kind, text in manual(11, 2) if kind == "p")
    texts |= {"{{cookiecutter.slug}}/README.rst": f"Title\n=====\n\n{body}"}
    texts |= {
        "deep/area.1": ".TH AREA 1\n.SH NAME\n" + "\n.PP\n".join(v for k, v in manual(12, 1) if k == "p")
    }
    texts |= {"a.tex": "\\begin{document}" + "\n\n".join(v for k, v in manual(13, 1) if k == "p")}
    texts |= {"PAGE.HTML": PAGE.format(html_of(manual(14, 2)))}
    texts |= {"row.NDJSON": '{"text": "short"}\n'}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {"a.pdf": reportlab_pdf(manual(15, 2)), "a.docx": docx_of(manual(16, 2))}
    contents |= {"broken.pdf": b"%PDF-1.7 and nothing more"}
    contents |= {"book.epub": epub_of([html_of(manual(17, 1)), html_of(manual(18, 1))])}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    rows = ["\n".join([sentence(Random(n))] * 9) for n in range(200, 240)]  # repetition, which a filter drops
    pq.write_table(pa.table({"text": pa.array(rows, pa.string_view())}), folder / "rows.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    copy = Project(tmp_path_factory.mktemp("own") / "copy")
    write_files(copy.folder / "data" / "own")
    (copy.folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return copy


OVERLAYS = ("--configfile", "experiments/own.yaml", "small.yaml")


def test_files_without_reader_are_refused_at_once(project):
    for name in ("a.xyz", "b.xyz", "c.png"):
        (project.folder / "data/own" / name).touch()
    printed = project.snakemake("-n", *OVERLAYS, check=False)
    assert "corpora.own.files: no reader for 2 .xyz (data/own/a.xyz, data/own/b.xyz), 1 .png" in printed
    for name in ("a.xyz", "b.xyz", "c.png"):
        (project.folder / "data/own" / name).unlink()


def test_mixed_files_become_a_model(project):
    targets = ("results/own/models/cpt-own", "results/own/corpora/own/documents.csv")
    printed = project.snakemake(*targets, *OVERLAYS)
    with open(project.folder / targets[1], newline="") as file:
        rows = list(csv.DictReader(file))
    files = {str(path.relative_to(project.folder)) for path in (project.folder / "data/own").rglob("*.*")}
    files -= {"data/own/{{cookiecutter.slug}}"}
    assert {row["file"] for row in rows} == files
    kinds = {"txt", "md", "html", "pdf", "docx", "epub", "rst", "tex", "man", "jsonl", "parquet"}
    assert {row["format"] for row in rows} == kinds
    sizes = [int(row["characters"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["kept"] for row in rows} == {"yes", "no", "held out"}
    dropped = [row for row in rows if row["kept"] == "no"]
    assert all(row["rule"] for row in dropped) and not any(
        row["rule"] for row in rows if row["kept"] == "yes"
    )
    broken = next(row for row in rows if row["file"] == "data/own/broken.pdf")
    assert broken["rule"] == "unreadable" and "it can't be opened" in broken["title"]
    short = next(row for row in rows if row["file"] == "data/own/row.NDJSON")
    assert (short["rule"], float(short["value"]), float(short["threshold"])) == ("minimum_lines", 1, 2)
    assert (project.folder / targets[0] / "model.safetensors").exists()
    lost = "data/own/rows.parquet (duplicate_lines: 0.8889, threshold 0.55)"
    warning = f"corpora.own: 1 of your 10 largest files lost more than half of their text: {lost}"
    assert printed.count(warning) == 2  # once at the drop, and once at the end


def test_a_changed_file_is_read_again_whatever_its_name(project):
    """Snakemake reads braces as wildcards, so the workflow compares these files in another way."""
    raw = "results/own/corpora/own/raw/00000.parquet", "results/own/corpora/own/raw/00001.parquet"
    assert project.planned(*raw, config=OVERLAYS).get("download", 0) == 0
    with open(project.folder / "data/own/notes {draft} 0.md", "a") as file:
        file.write("\nOne more line.\n")
    assert project.planned(*raw, config=OVERLAYS).get("download", 0) == 1
