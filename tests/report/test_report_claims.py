"""The paper's claims, recomputed from its numbers, and when a measurement is compared with them."""

import csv
import math
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_experiment import CLAIMS, PUBLISHED, build, claims_of, write_tables

from cpt.config import PAPER_MODEL
from cpt.errors import UserError
from cpt.report import resampling
from cpt.report.claims import CONSISTENT, INCONSISTENT, UNCHECKED, read_claims
from cpt.report.evidence import FromPaper
from cpt.report.replication import (
    INCONCLUSIVE,
    NO_CLAIM,
    NOT_REPLICATED,
    NOT_TESTABLE,
    OTHER,
    REPLICATED,
    stand_ins,
)
from cpt.report.scores import PUBLISHED_MODEL, read_published


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The paper's own experiment as if it had been run here, with made-up results."""
    root: Path = tmp_path_factory.mktemp("paper") / "results"
    parts = build(root, demo=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 500)
        return SimpleNamespace(root=root, scores=write_tables(root, parts, compare=False), **parts)


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
        ("gpu-hours", 100 * (24 / 9 - 1)),
        ("outweigh", 25.476 / 8.2034),  # relative gains over losses, by hand from Table 1
        ("early-share", 100 * 0.02690 / 0.03520),
        ("others-fall", 0),
        ("most-rise", 5),
        ("educational-group", 1),
        ("general-group", 0),
        ("items-mmlu", 3235),
        ("items-arc_challenge", 285),
        ("items-arc_easy", 985),
        ("items-winogrande", 664),
        ("items-hellaswag", 3832),
        ("items-boolq", 1973),
        ("items-piqa", 1197),
        ("over-majority-boolq", 0.5719 - 2033 / 3270),
        ("over-majority-mmlu", 0.2490 - 3776 / 14042),
    ],
)
def test_recomputed_from_the_papers_numbers(demo: dict[str, Any], claim: str, recomputed: float) -> None:
    assert demo[claim]["recomputed"] == pytest.approx(recomputed, rel=3e-4, abs=5e-5)


def test_what_is_inconsistent_in_the_source(demo: dict[str, Any]) -> None:
    """Figure 2's general losses don't follow from Table 1, and the global batch doubles between the runs."""
    inconsistent = {name for name, row in demo.items() if row["source"] == INCONSISTENT}
    assert inconsistent == {"general-1B", "general-group", "same-settings"}


@pytest.mark.parametrize(
    ("claim", "verdict", "reading"),
    [
        ("general-400M", CONSISTENT, "change of the mean: \N{MINUS SIGN}1.98 % (inconsistent)"),
        ("general-400M", CONSISTENT, "mean of the relative changes: \N{MINUS SIGN}2.05 % (consistent)"),
        ("general-1B", INCONSISTENT, "mean of the relative changes: \N{MINUS SIGN}2.83 % (inconsistent)"),
        ("scaling", UNCHECKED, "the 4 hours cover all 1B tokens: 93.8 %"),
        ("scaling", UNCHECKED, "the 4 hours cover the 600M tokens more: 56.2 %"),
        ("time-increase", CONSISTENT, "come on top: 133.3 % (inconsistent); GPU-hours: 166.7 %"),
        ("arc-easy-steady", CONSISTENT, "items more at 1B than at 400M tokens: 1 item;"),
        ("arc-easy-steady", CONSISTENT, "share of the rise in the first 400M tokens: 98.4 %"),
        ("consistent-improvement", CONSISTENT, "each benchmark at each of 8 steps: 7 steps (inconsistent)"),
        ("consistent-improvement", CONSISTENT, "400M to 1B tokens: \N{MINUS SIGN}3 items"),
        ("outweigh", CONSISTENT, "MMLU against BoolQ which the sentence omits: 1.55 times (consistent)"),
        ("outweigh", CONSISTENT, "the same in points, not relative: 0.59 times (inconsistent)"),
        ("loss-below", UNCHECKED, "only a drawing has the curves; the final losses agree"),
        ("loss-below", UNCHECKED, "tokens seen by the 1B run at an equal step: 2 times"),
        ("hours-cpt-1B", UNCHECKED, "a measurement from which nothing else in the paper follows"),
        ("table1-base-mmlu", UNCHECKED, "any score of four decimals is a share of 14,042 items"),
        ("table1-base-piqa", CONSISTENT, ""),
    ],
)
def test_readings_of_the_source(demo: dict[str, Any], claim: str, verdict: str, reading: str) -> None:
    assert demo[claim]["source"] == verdict
    assert reading in demo[claim]["source_note"]


def test_no_group_of_benchmarks_gives_both_general_changes(demo: dict[str, Any]) -> None:
    """Computed in another way than by the code: all subsets, with the rounding bounds of every score."""
    scores = read_published(PUBLISHED)
    names = [task for task in scores["base"] if task not in ("tokens", "average")]

    def reachable(group: tuple[str, ...], run: str, relative: bool) -> tuple[float, float]:
        ends = []
        for shift in (-5e-5, 5e-5):
            now = np.array([scores[run][task] + shift for task in group])
            then = np.array([scores["base"][task] - shift for task in group])
            ends.append(100 * ((now / then).mean() if relative else now.sum() / then.sum()) - 100)
        return ends[0], ends[1]

    def fitting(stated: dict[str, float]) -> list[tuple[str, ...]]:
        groups = [group for size in range(1, 8) for group in combinations(names, size)]
        return [
            group
            for group in groups
            for relative in (False, True)
            if all(
                low - 0.05 <= value <= high + 0.05
                for run, value in stated.items()
                for low, high in [reachable(group, run, relative)]
            )
        ]

    assert fitting({"cpt-400M": -2.1, "cpt-1B": -2.9}) == []
    assert ("mmlu", "arc_challenge", "arc_easy", "hellaswag") in fitting({"cpt-400M": 4.9, "cpt-1B": 6.6})
    changes = {claim["id"]: claim for claim in read_claims(CLAIMS)[1]}
    for group in ("general", "educational"):  # the group's numbers are those of the single claims
        stated = {run: changes[f"{group}-{run[4:]}"]["value"] for run in ("cpt-400M", "cpt-1B")}
        assert changes[f"{group}-group"]["by"]["changes"] == stated
    assert "percentage points: 0 subsets" in demo["general-group"]["source_note"]


def test_what_the_paper_does_not_say_is_marked(demo: dict[str, Any]) -> None:
    for row in demo.values():
        if row["kind"] == "inferred":
            assert (row["quote"], row["source"], row["replication"]) == (None, "", NO_CLAIM)
            assert row["stated"] is None
        if row["kind"] == "setting":
            assert (row["replication"], row["replication_note"]) == (NO_CLAIM, "setting")
    assert demo["net-effect"]["stated"] is None and demo["net-effect"]["condition"] == "> 0"
    assert demo["general-1B"]["assumes"] == "general are WinoGrande, BoolQ and PIQA"


def test_every_score_of_table_1_is_a_whole_number_of_items_of_the_full_split(demo: dict[str, Any]) -> None:
    published, paper = read_published(PUBLISHED), read_claims(CLAIMS)[0]
    cells = [row for name, row in demo.items() if name.startswith("table1-")]
    assert len(cells) == 21
    for run in published:
        for task, items in paper["items"].items():
            row = demo[f"table1-{run}-{task}"]
            assert row["stated"] == published[run][task] == round(row["recomputed"], 4)
            assert row["recomputed"] * items == pytest.approx(round(row["recomputed"] * items), abs=0.01)
            assert row["source"] == (UNCHECKED if items > 10_000 else CONSISTENT)


def test_noise_is_the_two_sample_z(demo: dict[str, Any]) -> None:
    before, after = 3235 / 14042, round(0.2490 * 14042) / 14042
    error = math.sqrt((before * (1 - before) + after * (1 - after)) / 14042)
    assert demo["noise-mmlu"]["recomputed"] == pytest.approx((after - before) / error, rel=1e-5)


def test_a_demo_is_never_compared_with_the_paper(demo: dict[str, Any]) -> None:
    assert {row["replication"] for row in demo.values()} == {OTHER, NO_CLAIM, NOT_TESTABLE}
    row = demo["mmlu-change"]
    assert (row["runs"], row["n"]) == ("cpt-25K base", 40) and row["measured"] is not None
    assert row["replication_note"] == "another base model: HuggingFaceTB/SmolLM2-135M-Instruct"
    assert demo["hours-cpt-400M"]["runs"] == "cpt-10K"
    assert "save" in demo["memory-saving"]["says"] and demo["memory-saving"]["measured"] is None


def test_one_run_of_the_papers_experiment_tests_nothing(papers: SimpleNamespace) -> None:
    """Without seeds nobody knows how much a true repeat differs; only the untrained model is compared."""
    rows = by_id(claims_of(papers.config, papers.runs, papers.scores, papers.root / "runs.csv"))
    row = rows["mmlu-change"]
    assert (row["replication"], row["replication_note"], row["seeds"]) == (NOT_TESTABLE, "no seeds", 1)
    assert row["ci_low"] < row["measured"] < row["ci_high"] and row["margin"] is None
    assert rows["table1-base-mmlu"]["replication_note"] == "no seed changes it"
    assert rows["table1-base-mmlu"]["replication"] == NOT_REPLICATED  # made-up scores
    assert {row["replication"] for row in rows.values()} == {NOT_TESTABLE, NO_CLAIM, NOT_REPLICATED}


def rows_with_seeds(papers: SimpleNamespace, tmp_path: Path, noise: list[float]) -> dict[str, dict[str, Any]]:
    """The claims if the paper's two runs are repeated, with all scores and losses shifted by `noise`."""
    config, budgets = {**papers.config, "runs": dict(papers.config["runs"])}, dict(papers.runs)
    scores = list(papers.scores)
    with (papers.root / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    for run in ("cpt-400M", "cpt-1B"):
        for number, shift in enumerate(noise):
            name = f"{run}-{number}"
            config["runs"][name] = {**config["runs"][run], "replicate_of": run}
            budgets[name] = budgets[run]
            run_scores = [row for row in papers.scores if row["run"] == run]
            # A whole number of items, so that gained and lost remain a table of counts.
            moved = [{**row, "run": name, "score": row["score"] + shift} for row in run_scores]
            for row in moved:
                more = round(shift * row["n"]) if row["gained"] is not None else 0
                row["gained"] = None if row["gained"] is None else max(0, row["gained"] + more)
            scores += moved
            original = next(row for row in runs if row["run"] == run)
            runs.append({**original, "run": name, "last_loss": float(original["last_loss"]) + shift})
    with (tmp_path / "runs.csv").open("w") as file:
        writer = csv.DictWriter(file, list(runs[0]))
        writer.writeheader()
        writer.writerows(runs)
    return by_id(claims_of(config, budgets, scores, tmp_path / "runs.csv"))


def test_seeds_give_the_margin(papers: SimpleNamespace, tmp_path: Path) -> None:
    noise = [0.004, -0.003]
    rows = rows_with_seeds(papers, tmp_path, noise)
    row = rows["table1-cpt-1B-mmlu"]
    first = next(r["score"] for r in papers.scores if (r["run"], r["task"]) == ("cpt-1B", "mmlu"))
    values = [first, first + noise[0], first + noise[1]]
    half = 4.302653 * np.std(values, ddof=1) * math.sqrt(4 / 3)  # t with 2 degrees of freedom
    assert row["seeds"] == 3 and row["margin"] == pytest.approx(half, rel=1e-5)
    assert row["measured"] == pytest.approx(np.mean(values))
    assert row["runs"] == "cpt-1B cpt-1B-0 cpt-1B-1"
    near = abs(np.mean(values) - 0.2490) <= half + 0.00005
    assert row["replication"] == (REPLICATED if near else NOT_REPLICATED)
    assert rows["table1-cpt-1B-boolq"]["ci_low"] is None  # of one run's items: not the error of a repeat
    assert rows["last-loss-cpt-1B"]["replication"] in (REPLICATED, NOT_REPLICATED)
    assert rows["loss-below"]["replication"] in (REPLICATED, INCONCLUSIVE, NOT_REPLICATED)
    assert rows["memory-saving"]["replication"] == NOT_TESTABLE
    assert rows["mmlu-change"]["seeds"] == 3 and rows["average-cpt-1B"]["margin"] > 0


def test_two_seeds_are_too_few(papers: SimpleNamespace, tmp_path: Path) -> None:
    row = rows_with_seeds(papers, tmp_path, [0.004])["mmlu-change"]
    assert (row["replication"], row["replication_note"]) == (NOT_TESTABLE, "2 seeds of 3")


def altered(papers: SimpleNamespace, tmp_path: Path, column: str, value: str) -> dict[str, Any]:
    """The claims if `column` of runs.csv is `value` for every run."""
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
    assert rows["hours-cpt-400M"]["replication"] == OTHER
    assert rows["hours-cpt-400M"]["replication_note"] == (
        "cpt-400M ran on 3 x NVIDIA H100 80GB HBM3 with deepspeed"
    )
    assert rows["mmlu-change"]["replication"] == NOT_TESTABLE


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
    assert row["replication"] == OTHER
    assert note in row["replication_note"]


def test_published_scores_are_those_of_the_claims_base_model() -> None:
    assert read_claims(CLAIMS)[0]["base"] == PUBLISHED_MODEL == PAPER_MODEL


def test_a_subset_of_the_items_measures_nothing(papers: SimpleNamespace) -> None:
    scores = [{**row, "n": row["n"] - 1} if row["task"] == "piqa" else row for row in papers.scores]
    rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
    assert rows["mmlu-change"]["replication_note"] == "a subset of the items"


def test_other_tasks_and_metrics_measure_other_things(papers: SimpleNamespace) -> None:
    """An average over further tasks, a benchmark without choices, one whose items aren't right or wrong."""

    def notes(**changes: Any) -> dict[str, str]:
        scores = [{**row, **changes} if row["task"] == "piqa" else row for row in papers.scores]
        rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
        return {name: row["replication_note"] for name, row in rows.items()}

    assert notes(averaged=False)["average-cpt-1B"] == "the average is over other tasks"
    piqa = notes(majority=None)
    assert piqa["over-majority-piqa"] == "inferred"  # which no measurement is compared with
    assert "some of its tasks have another metric" in notes(gained=None).values()
    scores = [row for row in papers.scores if row["task"] != "average"]
    rows = by_id(claims_of(papers.config, papers.runs, scores, papers.root / "runs.csv"))
    assert rows["average-cpt-1B"]["replication_note"] == "there is no average"


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
            "{paper: {}, claims: [{id: a, where: b, says: c, unit: d, kind: guess}]}",
            "kind is 'guess'; choose one of stated, setting, inferred",
        ),
        (
            "{paper: {}, claims: [{id: a, where: b, says: c, unit: d, readings: [{as: e}]}]}",
            "each of readings needs as and by, and may have as, by,",
        ),
        (
            "{paper: {}, claims: [{id: a, where: b, says: c, unit: d, condition: rises}]}",
            r"condition is 'rises'; write one of >= <= > < =, a space and a number, such as '> 0'",
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


def test_claims_say_where_the_paper_makes_them() -> None:
    paper, claims = read_claims(CLAIMS)
    assert all(claim["where"] and claim["says"] for claim in claims)
    source = FromPaper(paper, read_published(PUBLISHED))
    assert source.majority("boolq") == pytest.approx(0.6217, abs=1e-4)
