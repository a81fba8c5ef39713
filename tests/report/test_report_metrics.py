"""Tables of tasks that aren't multiple choice: other metrics, perplexities, scores of a whole corpus."""

import csv
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_experiment import PUBLISHED, evaluation_files
from report_tasks import ITEMS, RUNS, TASKS, Task, two_leaves, unknown, write_tasks
from scipy.stats import kstest

from comparisons import comparisons
from cpt.config_evaluate import Task as Column
from cpt.report import resampling
from cpt.report.comparisons import compare, read_comparisons
from cpt.report.measures import Values
from cpt.report.resampling import difference_interval, mean_difference_p, score_interval
from cpt.report.rows import read_rows
from cpt.report.scores import AVERAGE, read_published, read_scores
from cpt.report.tables import NONE, Table1, write_csv, write_latex, write_markdown
from letters import letters
from scores import scores
from seeds import seeds

METRICS: dict[str, str | None] = dict.fromkeys(TASKS)
LABELS = {"choice": "Choice", "gsm8k": "GSM8K (5-shot)", "reading": "Reading", "lambada_openai": "Lambada"}
LABELS |= {"wikitext": "Wikitext", "wmt": "WMT"}
AVERAGED = ["choice", "gsm8k", "reading"]


def columns(tasks: list[str]) -> dict[str, Column]:
    return {task: Column(label=LABELS[task]) for task in tasks}


def tabulate(
    folder: Path,
    tasks: dict[str, Callable[[str], Task]] = TASKS,
    metrics: dict[str, str | None] | None = None,
) -> list[dict[str, Any]]:
    """Write scores.csv, comparisons.csv, letters.csv and seeds.csv of made-up answers; return the scores."""
    metrics = metrics or dict.fromkeys(tasks)
    write_tasks(folder, tasks)
    summaries = evaluation_files(folder, RUNS, metrics, ".json")
    samples = evaluation_files(folder, RUNS, metrics, ".samples.jsonl")
    scores(PUBLISHED, summaries, samples, folder / "scores.csv", RUNS, metrics, list(metrics))
    comparisons(samples, summaries, folder / "comparisons.csv", RUNS, metrics, list(metrics))
    letters(samples, summaries, folder / "letters.csv", RUNS, list(metrics))
    groups = {"cpt-10K": ["cpt-10K", "cpt-25K"]}
    seeds(samples, summaries, folder / "seeds.csv", RUNS, metrics, list(metrics), groups, "base")
    return read_scores(folder / "scores.csv")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    tabulate(folder)
    return folder


def row_of(folder: Path, run: str, task: str, metric: str) -> dict[str, Any]:
    rows = read_scores(folder / "scores.csv")
    (row,) = [row for row in rows if (row["run"], row["task"], row["metric"]) == (run, task, metric)]
    return row


def test_every_metric_has_a_row_and_the_first_one_is_shown(tables: Path) -> None:
    rows = [row for row in read_scores(tables / "scores.csv") if row["run"] == "cpt-10K"]
    assert [(row["task"], row["metric"], row["shown"]) for row in rows] == [
        ("choice", "acc", True),
        ("gsm8k", "exact_match,strict-match", True),
        ("gsm8k", "exact_match,flexible-extract", False),
        ("reading", "f1", True),
        ("lambada_openai", "perplexity", True),
        ("lambada_openai", "acc", False),
        ("wikitext", "word_perplexity", True),
        ("wikitext", "byte_perplexity", False),
        ("wikitext", "bits_per_byte", False),
        ("wmt", "bleu", True),
        (AVERAGE, AVERAGE, False),
    ]
    assert [row["task"] for row in rows if row["averaged"]] == AVERAGED
    assert {row["task"]: row["higher_is_better"] for row in rows if row["shown"]} == {
        **dict.fromkeys(TASKS, True),
        **{"lambada_openai": False, "wikitext": False},
    }


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_the_evaluation(tables: Path, task: str) -> None:
    for run in RUNS:
        summary, _ = TASKS[task](run)
        for metric in summary["aggregations"]:
            row = row_of(tables, run, task, metric)
            assert row["score"] == pytest.approx(summary["metrics"][metric], abs=1e-6)
            assert (row["n"], row["shots"], row["cut_items"]) == (
                ITEMS,
                summary["shots"],
                summary["cut"]["items"],
            )
            assert row["difference"] == pytest.approx(row["score"] - row["base_score"], abs=2e-6)


def test_each_kind_of_metric_has_its_test(tables: Path) -> None:
    rows = {row["metric"]: row for row in read_scores(tables / "scores.csv") if row["run"] == "cpt-10K"}
    assert {metric: row["test"] for metric, row in rows.items()} == {
        **{
            "acc": "mcnemar",
            "exact_match,strict-match": "mcnemar",
            "exact_match,flexible-extract": "mcnemar",
        },
        **{"f1": "sign_flips", "perplexity": "sign_flips", "word_perplexity": "sign_flips"},
        **{"byte_perplexity": "sign_flips", "bits_per_byte": "sign_flips", "bleu": "", AVERAGE: "sign_flips"},
    }
    for metric, row in rows.items():
        if metric == "bleu":
            empty = ("mcnemar_p", "mcnemar_p_holm", "difference_ci_low", "detectable_difference", "gained")
            assert {row[name] for name in empty} == {None}
            assert row["ci_high"] - row["score"] == pytest.approx(1.96 * row["standard_error"], rel=1e-3)
        else:
            assert 0 < row["mcnemar_p"] <= 1, metric
            assert row["detectable_difference"] > 0, metric
            assert (
                row["difference_ci_low"] < row["difference"] < row["difference_ci_high"]
                or not row["difference"]
            )
            assert (row["mcnemar_p_holm"] is not None) == (row["shown"] or metric == AVERAGE)
            assert row["ci_low"] < row["score"] < row["ci_high"]
    assert {row["chance"] for metric, row in rows.items() if row["task"] != "choice"} == {None}
    # Every item's log-likelihood rose by about the same, so the interval is narrow and p is minimal.
    assert rows["perplexity"]["difference"] < 0 and rows["perplexity"]["mcnemar_p"] < 1e-4


def test_the_family_and_the_average_skip_what_has_no_test(tables: Path) -> None:
    rows = read_comparisons(tables / "comparisons.csv")
    family = [row for row in rows if row["shown"] and row["family"] == "base" and row["p_holm"] is not None]
    assert {row["task"] for row in family} == {*TASKS, AVERAGE} - {"wmt"}
    (mean,) = [
        row
        for row in rows
        if row["task"] == AVERAGE and (row["reference"], row["run"]) == ("base", "cpt-10K")
    ]
    parts = [
        row_of(tables, "cpt-10K", task, metric)
        for task, metric in zip(AVERAGED, ("acc", "exact_match,strict-match", "f1"), strict=True)
    ]
    assert mean["difference"] == pytest.approx(np.mean([row["difference"] for row in parts]), abs=1e-6)
    assert mean["n"] == 3 * ITEMS


def test_table1_says_shots_cuts_and_what_the_average_is_over(tables: Path, tmp_path: Path) -> None:
    table = Table1(
        read_scores(tables / "scores.csv"), RUNS, columns(list(TASKS)), "model", read_published(PUBLISHED)
    )
    assert table.header() == [
        "CPT tokens",
        "Choice",
        "GSM8K (5-shot)",
        "Reading",
        "Lambada \N{DOWNWARDS ARROW}",
        "Wikitext \N{DOWNWARDS ARROW}",
        "WMT",
        "Avg",
    ]
    notes = " ".join(table.notes())
    for text in (
        "Worked examples before each question (shots): none for Choice, Reading, Lambada, Wikitext, WMT; 5",
        "perplexity for Lambada",
        "Avg: unweighted mean over Choice, GSM8K (5-shot), Reading; Lambada, Wikitext, WMT are not in it",
        "GSM8K (5-shot) 60 of 1,319",
        "Cut at their beginning, to fit into the context: GSM8K (5-shot) 4 of 60 items.",
        "Avg, Reading, Lambada, Wikitext: random sign flips",
        "Not tested: WMT.",
    ):
        assert text in notes
    write_csv(tmp_path / "table1.csv", table)
    write_markdown(tmp_path / "table1.md", table)
    write_latex(tmp_path / "table1.tex", table)
    row = read_rows(tmp_path / "table1.csv", ("average", "wmt_mcnemar_p_holm"))[1]
    assert float(row["average"]) == pytest.approx(np.mean([float(row[task]) for task in AVERAGED]), abs=2e-4)
    chance = next(line for line in table.null_body() if line[0] == "chance")
    assert chance[1:] == ["0.2500", *[NONE] * 6]
    assert (tmp_path / "table1.tex").read_text().isascii()
    changes = next(line for line in table.body() if line[0] == "  95 % CI" and NONE in line)
    assert changes[6] == NONE  # WMT has no interval of a change


def test_without_accuracies_there_is_no_average(tmp_path: Path) -> None:
    tasks = {"wikitext": TASKS["wikitext"], "wmt": TASKS["wmt"]}
    rows = tabulate(tmp_path, tasks)
    assert AVERAGE not in {row["task"] for row in rows}
    table = Table1(rows, RUNS, columns(list(tasks)), "model", read_published(PUBLISHED))
    assert "Avg" not in table.header()
    assert "No average: it is over scores between 0 and 1." in " ".join(table.notes())
    assert table.null_body() == []
    write_latex(tmp_path / "table1.tex", table)
    assert (tmp_path / "letters.csv").read_text().count("\n") == 1  # only its header, as no task has choices


def test_each_question_is_in_the_average_once(tmp_path: Path) -> None:
    """A task with other worked examples is a separate column, and its errors aren't independent."""

    def five_shot(run: str) -> Task:
        summary, samples = TASKS["gsm8k"](run)
        return {**summary, "task": "gsm8k_0", "shots": 0}, samples

    rows = tabulate(tmp_path, {"gsm8k": TASKS["gsm8k"], "gsm8k_0": five_shot, "reading": TASKS["reading"]})
    assert [row["task"] for row in rows if row["averaged"] and row["run"] == "base"] == ["gsm8k", "reading"]
    assert [row["n"] for row in rows if row["task"] == AVERAGE] == [2 * ITEMS] * 3
    (compared, *_) = (row for row in read_comparisons(tmp_path / "comparisons.csv") if row["task"] == AVERAGE)
    assert compared["n"] == 2 * ITEMS


def test_several_leaf_tasks_have_the_mean_of_their_perplexities(tmp_path: Path) -> None:
    rows = tabulate(tmp_path, {"lambada": two_leaves})
    (row,) = [row for row in rows if (row["run"], row["metric"]) == ("cpt-10K", "perplexity")]
    assert row["score"] == pytest.approx(two_leaves("cpt-10K")[0]["metrics"]["perplexity"], abs=1e-6)
    assert row["ci_low"] < row["score"] < row["ci_high"]
    assert row["difference_ci_low"] < row["difference"] < row["difference_ci_high"] < 0


def test_what_isn_t_a_number_has_no_score_or_no_test(tmp_path: Path) -> None:
    rows = tabulate(tmp_path, {"wmt": unknown})
    by_key = {(row["run"], row["metric"]): row for row in rows}
    assert (by_key["base", "bleu"]["score"], by_key["cpt-10K", "bleu"]["difference"]) == (None, None)
    assert (by_key["cpt-10K", "rouge"]["score"], by_key["cpt-10K", "rouge"]["test"]) == (0.5, "")
    table = Table1(rows, RUNS, columns(["wmt"]), "model", read_published(PUBLISHED))
    assert [line[1] for line in table.body()[:2]] == [NONE, NONE]
    write_csv(tmp_path / "table1.csv", table)
    assert read_rows(tmp_path / "table1.csv", ("wmt",))[0]["wmt"] == ""


def test_letters_and_seeds_take_what_they_can(tables: Path) -> None:
    assert {row["task"] for row in read_rows(tables / "letters.csv", ("task",))} == {"choice"}
    rows = read_rows(tables / "seeds.csv", ("task", "quantity", "mean"))
    assert {row["task"] for row in rows} == {*AVERAGED, "average"}  # means over items
    reading = next(row for row in rows if row["task"] == "reading")
    each = [TASKS["reading"](run)[0]["metrics"]["f1"] for run in ("cpt-10K", "cpt-25K")]
    assert float(reading["mean"]) == pytest.approx(np.mean(each), abs=1e-6)


def test_other_metric_than_the_first(tmp_path: Path) -> None:
    tasks = {"lambada_openai": TASKS["lambada_openai"]}
    rows = tabulate(tmp_path, tasks, {"lambada_openai": "acc"})
    assert [row["metric"] for row in rows if row["shown"]] == ["acc"] * 3
    assert [row["metric"] for row in rows if row["averaged"]] == ["acc"] * 3


# Number and SHA-256 of the columns from when only multiple choice could be scored.
BEFORE = {
    "scores": (34, "0c4411a871849d90"),
    "comparisons": (22, "edd9d5b39d253d3c"),
    "letters": (10, "75e6ceea42a442cd"),
    "table1": (74, "42fbb02eecdb7172"),
}


@pytest.mark.parametrize("table", BEFORE)
def test_the_seven_benchmarks_have_the_same_numbers_as_before(
    experiment: SimpleNamespace, tmp_path: Path, table: str
) -> None:
    source = experiment.root / f"{table}.csv"
    if table == "table1":
        source, published = tmp_path / "table1.csv", read_published(PUBLISHED)
        write_csv(
            source, Table1(experiment.scores, experiment.runs, experiment.table_tasks, "model", published)
        )
    columns, digest = BEFORE[table]
    with source.open(newline="") as file:
        rows = [row for row in csv.reader(file) if not row[2].startswith("bits_per_byte.")]  # held-out text
    text = "\n".join(",".join(row[:columns]) for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


# ------------------------------------------------------------------------------------ are the methods right?
def made_up(
    n: int, seed: int, shift: float = 0.0, aggregation: str = "perplexity", leaves: int = 1
) -> Values:
    """Log-likelihoods of skewed items, which the run changes by noise around a shift."""
    generator = np.random.default_rng(seed)
    base = -generator.exponential(2, n)
    run = base + shift + 0.3 * generator.standard_normal(n)
    weights = generator.integers(5, 50, n).astype(float) if aggregation != "perplexity" else np.ones(n)
    leaf = np.arange(n) % leaves
    return Values(run * weights, base * weights, weights, leaf, aggregation)


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 400)
    monkeypatch.setattr(resampling, "FLIPS", 500)


@pytest.mark.parametrize("aggregation", ["perplexity", "weighted_perplexity", "mean"])
def test_sign_flips_of_values_are_uniform_under_the_null(fewer_draws: None, aggregation: str) -> None:
    p_values = [mean_difference_p([made_up(80, seed, 0.0, aggregation)], seed) for seed in range(500)]
    assert kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    ("aggregation", "leaves"), [("perplexity", 1), ("bits_per_byte", 1), ("perplexity", 3)]
)
def test_intervals_of_values_cover_the_truth(fewer_draws: None, aggregation: str, leaves: int) -> None:
    """The true mean log-likelihood is -2 nats a unit, and the run raises it by 0.1."""
    truth = {"perplexity": math.exp(1.9) - math.exp(2.0), "bits_per_byte": -0.1 / math.log(2)}[aggregation]
    covered = score_covered = 0
    for seed in range(500):
        values = made_up(300, seed, 0.1, aggregation, leaves)
        low, high = difference_interval([values], seed)
        covered += low <= truth <= high
        low, high = score_interval(values, seed)
        score = math.exp(1.9) if aggregation == "perplexity" else 1.9 / math.log(2)
        score_covered += low <= score <= high
    assert covered / 500 == pytest.approx(0.95, abs=0.03)
    assert score_covered / 500 == pytest.approx(0.95, abs=0.03)


def test_the_detectable_difference_is_found_with_80_percent_power(fewer_draws: None) -> None:
    reach = np.mean(
        [compare(made_up(200, seed, 0, "bits_per_byte"), seed)["detectable_difference"] for seed in range(20)]
    )
    shift = reach * math.log(2)
    rejections = [
        mean_difference_p([made_up(200, seed, shift, "bits_per_byte")], seed) < 0.05 for seed in range(300)
    ]
    assert np.mean(rejections) == pytest.approx(0.8, abs=0.07)
