"""The paper's claims: recomputed from its numbers, and when a measurement is held against them."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_experiment import CLAIMS, PUBLISHED, build, claims_of, write_tables

from cpt.errors import UserError
from cpt.report import resampling
from cpt.report.claims import (
    INCONSISTENT,
    NOT_REPRODUCED,
    NOT_TESTED,
    REPRODUCED,
    read_claims,
)
from cpt.report.evidence import FromPaper, stand_ins
from cpt.report.scores import PUBLISHED_MODEL, read_published


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The paper's own experiment as if it had been run here, with made-up results."""
    root: Path = tmp_path_factory.mktemp("paper") / "results"
    made = build(root, demo=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 500)
        return SimpleNamespace(root=root, scores=write_tables(root, made, compare=False), **made)


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["claim"]: row for row in rows}


@pytest.fixture(scope="module")
def demo(experiment: SimpleNamespace) -> dict[str, dict[str, Any]]:
    runs_table = experiment.root / "runs.csv"
    return by_id(claims_of(experiment.config, experiment.runs, experiment.scores, runs_table))


@pytest.mark.parametrize(
    ("claim", "recomputed"),
    [
        ("mmlu-change", 8.0729),
        ("hellaswag-change", 7.5734),
        ("arc-easy-change", 6.1746),
        ("winogrande-change", -3.0147),
        ("boolq-change", -5.2204),
        ("average-base", 0.435514),
        ("average-cpt-400M", 0.439357),
        ("average-cpt-1B", 0.440543),
        ("loss-gap", 4.2453),
        ("time-increase", 100 / 3),
        ("volume-increase", 150),
        ("tokens-per-parameter-400M", 3.2),
        ("tokens-per-parameter-1B", 8),
        ("educational-400M", 4.8905),
        ("educational-1B", 6.6310),
        ("general-400M", -1.9789),
        ("general-1B", -2.7547),
        ("speed-cpt-400M", 400e6 / (3 * 3600) / 3),
        ("speed-cpt-1B", 1e9 / (4 * 3600) / 6),
        ("scaling", 93.75),
        ("batch-cpt-400M", 80 * 2 * 3 * 2000),
        ("batch-cpt-1B", 80 * 2 * 6 * 2000),
        ("same-settings", 2),
        ("steps-cpt-400M", 417),
        ("steps-cpt-1B", 521),
        ("utilization-cpt-400M", 12345.68 * (6 * 124635456 + 6 * 30 * 576 * 2000) / 312e12),
        ("items-mmlu", 3235),
        ("items-arc_challenge", 285),
        ("items-arc_easy", 985),
        ("items-winogrande", 664),
        ("items-hellaswag", 3832),
        ("items-boolq", 1973),
        ("items-piqa", 1197),
        ("counts-mmlu", 1),
        ("over-majority-boolq", 0.5719 - 2033 / 3270),
        ("over-majority-mmlu", 0.2490 - 3776 / 14042),
    ],
)
def test_recomputed_from_the_papers_numbers(demo: dict[str, Any], claim: str, recomputed: float) -> None:
    assert demo[claim]["recomputed"] == pytest.approx(recomputed, rel=3e-4, abs=5e-5)


def test_what_is_inconsistent_in_the_source(demo: dict[str, Any]) -> None:
    """Figure 2's general losses don't follow from Table 1, and the global batch doubles between the runs."""
    found = {name for name, row in demo.items() if row["verdict"] == INCONSISTENT}
    assert found == {"general-400M", "general-1B", "same-settings"}


def test_every_score_of_table_1_is_a_whole_number_of_items_of_the_full_split(demo: dict[str, Any]) -> None:
    published, paper = read_published(PUBLISHED), read_claims(CLAIMS)[0]
    cells = [row for name, row in demo.items() if name.startswith("table1-")]
    assert len(cells) == 21
    for run in published:
        for task, items in paper["items"].items():
            row = demo[f"table1-{run}-{task}"]
            assert row["stated"] == published[run][task] == round(row["recomputed"], 4)
            assert row["recomputed"] * items == pytest.approx(round(row["recomputed"] * items), abs=0.01)


def test_noise_is_the_two_sample_z(demo: dict[str, Any]) -> None:
    before, after = 3235 / 14042, round(0.2490 * 14042) / 14042
    error = math.sqrt((before * (1 - before) + after * (1 - after)) / 14042)
    assert demo["noise-mmlu"]["recomputed"] == pytest.approx((after - before) / error, rel=1e-5)


def test_a_demo_is_never_held_against_the_paper(demo: dict[str, Any]) -> None:
    assert {row["verdict"] for row in demo.values()} == {NOT_TESTED, INCONSISTENT}
    row = demo["mmlu-change"]
    assert (row["runs"], row["n"]) == ("cpt-25K base", 40) and row["measured"] is not None
    assert row["note"] == "another base model: HuggingFaceTB/SmolLM2-135M-Instruct"
    assert demo["hours-cpt-400M"]["runs"] == "cpt-10K"
    assert "save" in demo["memory-saving"]["says"] and demo["memory-saving"]["measured"] is None


def test_the_papers_experiment_is_held_against_it(papers: SimpleNamespace) -> None:
    rows = by_id(claims_of(papers.config, papers.runs, papers.scores, papers.root / "runs.csv"))
    assert rows["mmlu-change"]["verdict"] == REPRODUCED
    assert rows["mmlu-change"]["ci_low"] < 8.1 < rows["mmlu-change"]["ci_high"]
    assert rows["winogrande-change"]["verdict"] == NOT_REPRODUCED
    assert "no change as well" in rows["winogrande-change"]["note"]
    assert rows["steps-cpt-1B"]["verdict"] == rows["batch-cpt-400M"]["verdict"] == REPRODUCED
    assert rows["hours-cpt-400M"]["verdict"] == REPRODUCED  # 37,100 tokens/s on three A100
    assert rows["loss-gap"]["verdict"] == NOT_REPRODUCED
    assert rows["general-1B"]["verdict"] == INCONSISTENT
    assert {row["verdict"] for row in rows.values()} == {
        *(REPRODUCED, NOT_REPRODUCED),
        *(NOT_TESTED, INCONSISTENT),
    }
    assert {name for name, row in rows.items() if row["verdict"] == NOT_TESTED} == {
        "memory-saving",
        *(name for name in rows if name.startswith("counts-")),
    }


def altered(papers: SimpleNamespace, tmp_path: Path, column: str, value: str) -> dict[str, Any]:
    """The claims where one column of runs.csv is another."""
    with (papers.root / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row[column] = value
    with (tmp_path / "runs.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return by_id(claims_of(papers.config, papers.runs, papers.scores, tmp_path / "runs.csv"))


def test_other_devices_measure_scores_but_no_times(papers: SimpleNamespace, tmp_path: Path) -> None:
    rows = altered(papers, tmp_path, "device", "NVIDIA H100 80GB HBM3")
    assert rows["hours-cpt-400M"]["verdict"] == rows["speed-cpt-1B"]["verdict"] == NOT_TESTED
    assert rows["hours-cpt-400M"]["note"] == "cpt-400M ran on 3 x NVIDIA H100 80GB HBM3 with deepspeed"
    assert rows["mmlu-change"]["verdict"] == REPRODUCED


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"train": {"learning_rate": 3e-4}}, "cpt-1B has another learning rate: 0.0003"),
        ({"train": {"document_masking": True}}, "cpt-1B trains with document masking"),
        ({"runs": {"cpt-1B": {"tokens": 10**9, "start_from": "cpt-400M"}}}, "not from the base model"),
        ({"runs": {"cpt-1B": {"tokens": 6 * 10**8, "start_from": "cpt-400M"}}}, "not from the base model"),
        ({"runs": {"cpt-1B": {"tokens": 9 * 10**8}}}, "no run of 1B tokens"),
        ({"corpora": {"fineweb_edu": {"repo": "HuggingFaceFW/fineweb"}}}, "is trained on other text"),
    ],
)
def test_another_setting_is_another_experiment(
    papers: SimpleNamespace, change: dict[str, Any], note: str
) -> None:
    config = {**papers.config}
    for key, values in change.items():
        config[key] = {**config[key], **values}
    runs = {run: config["runs"][run]["tokens"] for run in papers.runs}
    row = by_id(claims_of(config, runs, papers.scores, papers.root / "runs.csv"))["mmlu-change"]
    assert row["verdict"] == NOT_TESTED
    assert note in row["note"]


def test_published_scores_are_those_of_the_claims_base_model() -> None:
    assert read_claims(CLAIMS)[0]["base"] == PUBLISHED_MODEL


def test_a_subset_of_the_items_measures_nothing(papers: SimpleNamespace) -> None:
    scores = [{**row, "n": row["n"] - 1} if row["task"] == "piqa" else row for row in papers.scores]
    rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
    assert rows["mmlu-change"]["note"] == "a subset of the items"


def test_other_tasks_and_metrics_measure_other_things(papers: SimpleNamespace) -> None:
    """An average over further tasks, a benchmark without choices, one whose items aren't right or wrong."""

    def notes(**changes: Any) -> dict[str, str]:
        scores = [{**row, **changes} if row["task"] == "piqa" else row for row in papers.scores]
        rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
        return {name: row["note"] for name, row in rows.items()}

    assert notes(averaged=False)["average-cpt-1B"] == "the average is over other tasks"
    assert notes(majority=None)["over-majority-piqa"] == "piqa has no choices here"
    assert "some of its tasks have another metric" in notes(gained=None).values()
    scores = [row for row in papers.scores if row["task"] != "average"]
    rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
    assert rows["average-cpt-1B"]["note"] == "there is no average"


def test_stand_ins() -> None:
    paper = read_claims(CLAIMS)[0]
    runs = {name: {} for name in ("base", "a", "b", "mid", "cpt-400M")}
    runs["mid"] = {"merge": {"base": 0.5, "b": 0.5}}
    budgets = {"base": 0, "a": 5, "b": 9}
    assert stand_ins({"runs": runs}, budgets, paper) == {"base": "base", "cpt-400M": "a", "cpt-1B": "b"}
    budgets = {"base": 0, "a": 400 * 10**6, "cpt-400M": 400 * 10**6}
    assert stand_ins({"runs": runs}, budgets, paper) == {"base": "base", "cpt-400M": "cpt-400M"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: []", "expected the keys paper and claims"),
        ("{paper: {}, claims: [{id: a, where: b, says: c}]}", r"claim 'a': needs id, where, says and unit"),
        ("{paper: {}, claims: [{id: a, where: b, says: c, unit: d, x: 1}]}", r"unknown: x"),
        (
            "{paper: {}, claims: [{id: a, where: b, says: c, unit: d, by: {function: eval}}]}",
            r"by\.function is 'eval'; choose one of score,",
        ),
        (
            "{paper: {}, claims: [{id: a, where: b, says: c, unit: d}, {id: a, where: b, says: c, unit: d}]}",
            "the claim 'a' occurs twice; give each an id of its own",
        ),
    ],
)
def test_broken_claims_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_claims(tmp_path / "claims.yaml")


def test_claims_name_where_they_stand() -> None:
    paper, claims = read_claims(CLAIMS)
    assert all(claim["where"] and claim["says"] for claim in claims)
    source = FromPaper(paper, read_published(PUBLISHED))
    assert source.majority("boolq") == pytest.approx(0.6217, abs=1e-4)
