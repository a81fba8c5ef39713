"""Papers of other experiments, tasks and results compile, and an error names the place."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from paper_files import (
    NOTHING,
    figures,
    figures_of,
    lists,
    pages_of,
    required,
    text_of,
)
from report_experiment import FULL, build, write_tables
from report_tasks import TASKS, add_tasks

from cpt.errors import UserError
from cpt.report.likelihoods import read_verdicts
from cpt.report.scores import COLUMNS
from cpt.report.typesetting import lay_out, typeset


def changed(experiment: SimpleNamespace, folder: Path, keep: Any, **config: Any) -> dict[str, Path]:
    """The required files with some rows of scores.csv and some keys of the config changed."""
    files = {name: Path(shutil.copy(path, folder / name)) for name, path in required(experiment.root).items()}
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
            **{"switch": {"mixture": "late", "at": 0.75}, "start_from": "cpt-10K"},
        },
    }
    domain, general = experiment.corpora
    mixtures = {"domain": {domain: 1.0}, "late": {domain: 0.4, general: 0.6}}
    files = changed(
        experiment,
        tmp_path / "in",
        lambda line: any(f",{task}," in line for task in ("piqa", "arc_easy", "average")),
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
    assert "H.Swag" not in shown
    assert "those of the runs that a run starts from" in " ".join(shown.split())


def test_tasks_of_all_kinds_compile(tmp_path: Path) -> None:
    """With another average, worked examples, cut items, perplexities, and a metric without a test."""
    parts = build(tmp_path)
    add_tasks(tmp_path, parts, TASKS)
    write_tables(tmp_path, parts)
    (tmp_path / "out").mkdir()
    lay_out(tmp_path / "out", required(tmp_path), lists(tmp_path), figures(tmp_path))
    text = " ".join(text_of(tmp_path / "out").split())
    for phrase in (
        "Lambada_openai ↓",
        "5 for Gsm8k",
        "4 items of Gsm8k",
        "the test is by random sign flips",
        "Metrics that are computed from all items at once have no test.",
        "of tasks with choices",
        "share 13 words in a row with a document of the training text",
        "of PIQA",
        "chance, the base model without and with the document in its context",
    ):
        assert phrase in text, phrase
    with (tmp_path / "answers.csv").open() as file:
        tasks = {row["task"] for row in csv.DictReader(file)}
    assert tasks == {*FULL, "choice", "average"} - {"mmlu_continuation"}
    for sentences in read_verdicts(tmp_path / "answers.md").values():
        assert " ".join(sentences.split()[:6]) in text


def test_only_perplexities_compile(tmp_path: Path) -> None:
    parts = build(tmp_path)
    parts["table_tasks"], parts["metrics"] = {}, {}
    parts["config"]["evaluate"] |= {"tasks": {}, "groups": {}}
    add_tasks(tmp_path, parts, ["wikitext", "wmt"])
    write_tables(tmp_path, parts)
    (tmp_path / "out").mkdir()
    lay_out(tmp_path / "out", required(tmp_path), lists(tmp_path), [])
    text = text_of(tmp_path / "out")
    assert "unweighted mean" not in text and "Wikitext ↓" in text


def test_an_experiment_without_training_compiles(experiment: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    files = changed(experiment, tmp_path / "in", lambda line: line.startswith("base,"), runs={"base": {}})
    lay_out(tmp_path / "out", files, *NOTHING)
    assert pages_of(tmp_path / "out") > 1


def test_error_names_the_template_and_the_place(experiment: SimpleNamespace, tmp_path: Path) -> None:
    broken = tmp_path / "scores.csv"
    broken.write_text(",".join(COLUMNS[:5]) + "\nbase,0,piqa,acc,40\n")
    files = {**required(experiment.root), "scores.csv": broken}
    with pytest.raises(UserError, match=r"(?s)paper\.typ: typst can't compile it:.*shown.*paper\.typ:\d+"):
        typeset(tmp_path / "paper.pdf", files, *NOTHING)
    assert not (tmp_path / "paper.pdf").exists()
