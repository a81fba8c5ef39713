"""The paper compiles from an experiment's files, with and without the optional ones."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typst
import yaml
from report_experiment import PUBLISHED, REPOSITORY

from cpt.errors import UserError
from cpt.report import style
from cpt.report.figures import draw_changes
from cpt.report.scores import COLUMNS
from cpt.report.typesetting import lay_out, typeset

NOTHING = (
    {"statistics": None, **dict.fromkeys(("figure1", "figure2", "figure6"))},
    {"runs": [], "ledgers": []},
)


def inputs(experiment: SimpleNamespace) -> tuple[dict, dict, dict]:
    """The arguments of lay_out and typeset; figure 2 stands for all figures."""
    root = experiment.root
    with style.figure(height=2.9) as drawn:
        groups = experiment.config["evaluate"]["groups"]
        draw_changes(drawn, experiment.scores, groups, experiment.runs, experiment.published, seed=0)
        (figure,) = style.save(drawn, root / "figures" / "figure2", ["svg"])
    files = {
        "paper.typ": REPOSITORY / "paper" / "paper.typ",
        "references.bib": REPOSITORY / "paper" / "references.bib",
        "published.csv": PUBLISHED,
        "config.yaml": root / "config.yaml",
        "scores.csv": root / "scores.csv",
        "base.json": root / "models" / "base.json",
    }
    optional = {"statistics": root / "corpora" / "statistics.csv"}
    optional |= dict.fromkeys(("figure1", "figure2", "figure6"), figure)
    names = [run["name"] for run in experiment.runs if run["tokens"]]
    lists = {
        "runs": [root / "runs" / name / "run.json" for name in names],
        "ledgers": [root / "packed" / "domain" / "ledger.json"],
    }
    return files, optional, lists


def texts(content: Any) -> str:
    """All text in typst content as `typst.query` returns it."""
    if isinstance(content, dict):
        return content.get("text", "") + "".join(texts(value) for value in content.values())
    if isinstance(content, list):
        return " ".join(texts(value) for value in content)
    return ""


def figures_of(folder: Path) -> str:
    found = typst.query(str(folder / "paper.typ"), "figure", root=str(folder), ignore_system_fonts=True)
    return texts(json.loads(found))


def pages_of(folder: Path) -> int:
    source = str(folder / "paper.typ")
    pages = typst.compile(source, root=str(folder), format="svg", ignore_system_fonts=True)
    return len(pages) if isinstance(pages, list) else 1


def test_paper_shows_the_numbers_of_the_results(experiment: SimpleNamespace, tmp_path: Path) -> None:
    lay_out(tmp_path, *inputs(experiment))
    assert pages_of(tmp_path) > 2
    shown = figures_of(tmp_path)
    rows = [row for row in experiment.scores if row["shown"]]
    for row in rows:
        assert f"{row['score']:.4f}" in shown
    for run in experiment.runs:
        scores = [row["score"] for row in rows if row["run"] == run["name"]]
        assert f"{sum(scores) / 7:.4f}" in shown
    for row in experiment.scores:
        if row["metric"] == "bits_per_byte":
            assert f"{row['score']:.4f}" in shown
    for text in (
        "0.4355",
        "0.4394",
        "0.4405",
        "5,230",
        "461,500",
        "70.6",
        "10,240",
        "25,600",
        "SmolLM2-135M",
    ):
        assert text in shown
    for change in (
        "+8.1 %",
        "+7.6 %",
        "+6.2 %",
        "+4.9 %",
        "+6.6 %",
        "\N{MINUS SIGN}2.0 %",
        "\N{MINUS SIGN}2.8 %",
    ):
        assert change in shown


def test_pdf_is_equal_byte_for_byte(experiment: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        typeset(tmp_path / name, *inputs(experiment))
    first = (tmp_path / "a.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert len(first) > 50_000
    assert first == (tmp_path / "b.pdf").read_bytes()


def test_optional_results_may_be_missing(experiment: SimpleNamespace, tmp_path: Path) -> None:
    lay_out(tmp_path, inputs(experiment)[0], *NOTHING)
    assert pages_of(tmp_path) > 1
    assert "5,230" not in figures_of(tmp_path)


def changed(experiment: SimpleNamespace, folder: Path, keep: Any, **config: Any) -> dict[str, Path]:
    """The required files with some rows of scores.csv and some keys of the config changed."""
    files = {name: Path(shutil.copy(path, folder / name)) for name, path in inputs(experiment)[0].items()}
    lines = files["scores.csv"].read_text().splitlines()
    files["scores.csv"].write_text("\n".join([lines[0], *filter(keep, lines[1:])]) + "\n")
    merged = yaml.safe_load(files["config.yaml"].read_text())
    files["config.yaml"].write_text(yaml.safe_dump({**merged, **config}, sort_keys=False))
    return files


def test_other_experiments_compile(experiment: SimpleNamespace, tmp_path: Path) -> None:
    """Two tasks, no general group, no bits per byte, budgets that repeat, a run with its own settings."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    evaluate = {
        **experiment.config["evaluate"],
        "tasks": {name: experiment.tasks[name] for name in ("piqa", "arc_easy")},
        "groups": {"educational": ["arc_easy"]},
    }
    runs = {
        "base": {},
        "cpt-10K": {"tokens": "10K", "cpus": 2},
        "cpt-25K": {
            **{"tokens": 10_240, "cpus": 2, "train": {"learning_rate": 0.001}},
            "switch": {"mixture": "late", "at": 0.75},
        },
    }
    domain, general = experiment.corpora
    mixtures = {"domain": {domain: 1.0}, "late": {domain: 0.4, general: 0.6}}
    files = changed(
        experiment,
        tmp_path / "in",
        lambda line: ",piqa," in line or ",arc_easy," in line,
        evaluate=evaluate,
        runs=runs,
        mixtures=mixtures,
    )
    files["scores.csv"].write_text(files["scores.csv"].read_text().replace("25600", "10240"))
    lay_out(tmp_path / "out", files, *NOTHING)
    shown = figures_of(tmp_path / "out")
    assert "10.2K (cpt-25K)" in shown
    assert "learning rate 0.001" in shown
    assert f"{domain} 85 % , {general} 15 %" in " ".join(shown.split())
    assert "BoolQ" not in shown


def test_an_experiment_without_training_compiles(experiment: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    files = changed(experiment, tmp_path / "in", lambda line: line.startswith("base,"), runs={"base": {}})
    lay_out(tmp_path / "out", files, *NOTHING)
    assert pages_of(tmp_path / "out") > 1


def test_error_names_the_template_and_the_place(experiment: SimpleNamespace, tmp_path: Path) -> None:
    files, optional, lists = inputs(experiment)
    broken = tmp_path / "scores.csv"
    broken.write_text(",".join(COLUMNS[:5]) + "\nbase,0,piqa,acc,40\n")
    with pytest.raises(UserError, match=r"(?s)paper\.typ: typst can't compile it:.*shown.*paper\.typ:\d+"):
        typeset(tmp_path / "paper.pdf", {**files, "scores.csv": broken}, optional, lists)
    assert not (tmp_path / "paper.pdf").exists()
