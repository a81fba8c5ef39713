"""exam.csv and its figure: chance, base model, base model with the document, trained models."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from report_experiment import PUBLISHED, evaluation_files, write_json
from report_tasks import ITEMS, RUNS, chosen, write_tasks

from cpt.errors import UserError
from cpt.report.exam import read_exam
from cpt.report.scores import read_scores
from exam_scores import exam_scores
from scores import scores


def share(value: float) -> dict[str, float]:
    return {"score": value, "low": value - 0.1, "high": value + 0.1}


REPORT: dict[str, Any] = {
    **{"n": ITEMS, "documents": 17, "chance": 0.25, "kinds": {"number": ITEMS}},
    "base": {"without_document": {"acc": share(0.3)}, "with_document": {"acc": share(0.8)}},
}


def make(folder: Path, report: dict[str, Any] = REPORT, task: str = "exam") -> list[dict[str, Any]]:
    tasks = {task: partial(chosen, right=2.0, wrong=0.1, task="exam")}
    write_tasks(folder, tasks)
    write_json(folder / "exam.json", report)
    evaluations = (evaluation_files(folder, RUNS, tasks, kind) for kind in (".json", ".samples.jsonl"))
    scores(PUBLISHED, *evaluations, folder / "scores.csv", RUNS, {task: None}, [task])
    files = [folder / f"exam.{kind}" for kind in ("svg", "png")]
    exam_scores(folder / "exam.json", folder / "scores.csv", folder / "exam.csv", files, RUNS, task)
    return read_exam(folder / "exam.csv")


@pytest.mark.parametrize("task", ["exam", "ours"])
def test_four_kinds_of_rows_with_n_documents_and_intervals(tmp_path: Path, task: str) -> None:
    rows = make(tmp_path, task=task)
    kinds = ["chance", "base", "base with the document", "trained", "trained"]
    assert [row["row"] for row in rows] == kinds
    assert {(row["n"], row["documents"], row["metric"]) for row in rows} == {(ITEMS, 17, "acc")}
    by_run = {row["run"]: row for row in read_scores(tmp_path / "scores.csv") if row["task"] == task}
    chance, base, open_book, first, _ = rows
    assert (chance["score"], chance["ci_low"]) == (0.25, None)
    assert (base["score"], base["difference"]) == (by_run["base"]["score"], None)
    assert (open_book["score"], open_book["ci_low"], open_book["ci_high"]) == pytest.approx((0.8, 0.7, 0.9))
    for name, column in (("score", "score"), ("difference", "difference"), ("p", "mcnemar_p")):
        assert first[name] == by_run["cpt-10K"][column]
    assert first["difference_ci_low"] > 0 and first["p_holm"] < 0.05


def test_figure_is_equal_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        make(folder)
    for kind in ("svg", "png"):
        assert (first / f"exam.{kind}").read_bytes() == (second / f"exam.{kind}").read_bytes()


def test_a_metric_that_the_exam_lacks_is_refused(tmp_path: Path) -> None:
    report = {**REPORT, "base": {"with_document": {"acc_norm": share(0.8)}}}
    with pytest.raises(
        UserError, match=r"evaluate\.tasks\.exam\.metric: acc isn't known of the base model with the document"
    ):
        make(tmp_path, report)
