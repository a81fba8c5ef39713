"""summary.txt: what moved, in 80 columns."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_report_exam import make

from cpt.files import write_json
from cpt.report.exam import read_exam
from cpt.report.likelihoods import read_verdicts
from cpt.report.summary import WIDTH, grid, summary_text
from summary import summary

ROLES = {"scientific_python": "domain", "standard_library": "general"}


def write(experiment: SimpleNamespace, folder: Path, **others: Any) -> str:
    """The summary of the made-up demo."""
    labels = {task: settings["label"] for task, settings in experiment.tasks.items()}
    root, text, overlap = experiment.root, folder / "summary.txt", folder / "overlap.json"
    write_json(overlap, {"corpora": {"scientific_python": {"ngrams": 1000, "shared": 4}}})
    summary(root / "scores.csv", root / "answers.md", text, experiment.runs, labels, ROLES, overlap, **others)
    return text.read_text()


def test_it_names_what_moved_in_80_columns(experiment: SimpleNamespace, tmp_path: Path) -> None:
    text = write(experiment, tmp_path)
    assert max(map(len, text.splitlines())) <= WIDTH
    bits = {(r["run"], r["task"]): r for r in experiment.scores if r["metric"] == "bits_per_byte"}
    row = bits["cpt-25K", "bits_per_byte.scientific_python"]
    lines = text.splitlines()
    title = "scientific_python (domain): 41 documents of 41 groups, 0.4 % in training text"
    block = lines[lines.index(title) + 1 :]
    cells = [f"{row['ci_low']:.3f} to {row['ci_high']:.3f}", f"{row['relative_change']:+.1f} %"]
    cells.append(f"{row['relative_ci_low']:+.1f} to {row['relative_ci_high']:+.1f}")
    shown = [cell.replace("-", "\N{MINUS SIGN}") for cell in cells]
    assert " ".join(block[3].split()) == f"cpt-25K {row['score']:.3f} {' '.join(shown)}"
    assert f"base {row['base_score']:.3f}" in " ".join(block[1].split())
    assert "standard_library (general): 42 documents of 21 groups" in lines  # not compared
    assert "In training text: the share of held-out 13-grams" in text
    assert "No run trained on these documents; the base model may have." in text
    warning = "Warning: standard_library has only 42 documents of 21 groups."
    assert warning in text and "Warning: scientific_python" not in text  # 41 groups
    for run, sentences in read_verdicts(experiment.root / "answers.md").items():
        assert f"{run}: {' '.join(sentences.split()[:4])}" in text
    for row in experiment.scores:
        if row["shown"] or row["task"] == "average":
            assert f"{row['score']:.4f}" in text
    assert "Exam" not in text


def test_the_exam_has_its_four_kinds_of_rows(experiment: SimpleNamespace, tmp_path: Path) -> None:
    make(tmp_path)
    text = write(experiment, tmp_path, exam=tmp_path / "exam.csv")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "Exam: 60 questions on 17 held-out documents" in text
    for name in ("chance", "base model", "base, document in context", "cpt-10K"):
        assert any(line.startswith(name) for line in text.splitlines())
    first = next(row for row in read_exam(tmp_path / "exam.csv") if row["run"] == "cpt-10K")
    assert f"{first['difference']:+.3f}*" in text


def test_many_runs_with_long_names_are_shown_in_blocks() -> None:
    names = ["a task with a name that is much longer than any column has room for", "short"]
    columns = {f"a-run-with-a-long-name-{number}": ["0.1234*", "0.9"] for number in range(7)}
    lines = grid(names, columns)
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.count("0.1234*") for line in lines) == 7
    assert sum(line.startswith("short") for line in lines) == len(lines) // 3
    assert "…" in lines[1]


@pytest.mark.parametrize("kind", ["perplexity", "without runs"])
def test_missing_parts_are_skipped(experiment: SimpleNamespace, kind: str) -> None:
    rows = [row for row in experiment.scores if row["run"] == "base" and row["metric"] != "bits_per_byte"]
    if kind == "perplexity":
        rows = [{**row, "higher_is_better": False, "score": 23.456} for row in rows if row["task"] == "piqa"]
    labels = {task: settings["label"] for task, settings in experiment.tasks.items()}
    text = summary_text(rows, [], {}, {"base": 0}, labels, {}, {})
    assert text.startswith("Scores") and ("Average" in text) == (kind == "without runs")
    if kind == "perplexity":
        assert "PIQA \N{DOWNWARDS ARROW}" in text and "23.5" in text
