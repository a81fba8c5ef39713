"""Every score of every run with its uncertainty, paired with the base model item by item."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.files import read_json
from cpt.report.comparisons import AVERAGE, compare, compare_average
from cpt.report.nulls import ALWAYS, letter, null_scores, strongest_null
from cpt.report.rows import Row, read_rows, typed, write_rows
from cpt.report.samples import Answers, pair, read_answers, samples_path, shown_metric
from cpt.report.statistics import Z_95, Pairs, holm, pooled, standard_error, wilson_interval

COLUMNS = (
    *("run", "tokens", "task", "metric", "n", "items_of_full", "score", "standard_error"),
    *("ci_low", "ci_high", "shown", "base_score", "difference", "difference_ci_low", "difference_ci_high"),
    *("gained", "lost", "mcnemar_p", "mcnemar_p_holm", "detectable_difference"),
    *("chance", "majority", "longest"),
    *("null", "null_score", "null_test", "null_p", "above_null", "published"),
)
FEWEST_LETTERS = 5  # that scores.csv has columns for: no item of the seven benchmarks has more choices
BITS_PER_BYTE = "bits_per_byte"
PUBLISHED_MODEL = "facebook/MobileLLM-125M"


def base_run(runs: list[dict[str, Any]]) -> str:
    """The name of the run without training tokens. Raises UserError if there is none."""
    for run in runs:
        if run["tokens"] == 0:
            return run["name"]
    raise UserError("runs: every comparison is against the base model; add a run without tokens: `base: {}`")


def read_published(path: Path) -> dict[str, dict[str, float]]:
    """The paper's Table 1: run -> {tokens, task: score, ..., average}."""
    return {
        row["run"]: {key: float(value) for key, value in row.items() if key != "run"}
        for row in read_rows(path, ("run", "tokens", "average"))
    }


def _task_rows(
    folder: Path,
    run: dict[str, Any],
    of_base: Answers,
    task: str,
    settings: dict[str, Any],
    published: float | None,
    seed: int,
) -> Iterator[tuple[Row, list[Pairs]]]:
    shown = settings["metric"]
    path = samples_path(folder, run["name"], task)
    summary = read_json(folder / run["name"] / f"{task}.json")
    answers = read_answers(path)
    if summary["n"] != len(answers.keys):
        raise UserError(
            f"{path}: has {len(answers.keys)} items, but {task}.json beside it counts {summary['n']}; "
            "evaluate again"
        )
    shown_metric(answers, task, shown)
    nulls = null_scores(answers)
    for metric in answers.right:
        strata = pair(of_base, answers, metric, str(path))
        pairs = pooled(strata)
        correct = pairs.both + pairs.gained
        low, high = wilson_interval(correct, pairs.n)
        null = strongest_null(answers, metric)
        row = {
            "run": run["name"],
            "tokens": run["tokens"],
            "task": task,
            "metric": metric,
            "n": pairs.n,
            "items_of_full": summary["items_of_full"],
            "score": pairs.run_score,
            "standard_error": standard_error(correct, pairs.n),
            "ci_low": low,
            "ci_high": high,
            "shown": metric == shown and settings.get("in_table", True),
            "base_score": pairs.base_score,
            "difference": pairs.difference,
            "gained": pairs.gained,
            "lost": pairs.lost,
            **nulls,
            "null": null.name,
            "null_score": null.score,
            "null_test": null.test,
            "null_p": null.p,
            "above_null": null.above,
            "published": published if metric == shown else None,
        }
        if run["tokens"]:
            row |= _of_pair(compare(strata, seed))
        yield row, strata


def _of_pair(compared: Row) -> Row:
    """The columns of scores.csv that say how a run differs from the base model."""
    return {
        "difference_ci_low": compared["ci_low"],
        "difference_ci_high": compared["ci_high"],
        "mcnemar_p": compared["p"],
        "detectable_difference": compared["detectable_difference"],
    }


def _average_row(rows: list[Row], tasks: list[list[Pairs]], seed: int, published: float | None) -> Row:
    """The unweighted mean over the shown rows of one run, with the interval of its own paired difference."""

    def mean(name: str) -> float:
        return math.fsum(row[name] for row in rows) / len(rows)

    error = math.sqrt(math.fsum(row["standard_error"] ** 2 for row in rows)) / len(rows)
    score = mean("score")
    row = {
        "run": rows[0]["run"],
        "tokens": rows[0]["tokens"],
        "task": AVERAGE,
        "metric": AVERAGE,
        "n": sum(row["n"] for row in rows),
        "items_of_full": sum(row["items_of_full"] for row in rows),
        "score": score,
        "standard_error": error,
        "ci_low": score - Z_95 * error,
        "ci_high": score + Z_95 * error,
        "shown": False,
        "base_score": mean("base_score"),
        "difference": mean("difference"),
        "gained": sum(row["gained"] for row in rows),
        "lost": sum(row["lost"] for row in rows),
        "chance": mean("chance"),
        "majority": mean("majority"),
        "published": published,
    }
    return row | (_of_pair(compare_average(tasks, seed)) if row["tokens"] else {})


def _bits_per_byte_row(folder: Path, run: dict[str, Any], base: str, corpus: str) -> Row:
    name = f"{BITS_PER_BYTE}.{corpus}"
    measured = read_json(folder / run["name"] / f"{name}.json")
    of_base = read_json(folder / base / f"{name}.json")
    if (measured["documents"], measured["bytes"]) != (of_base["documents"], of_base["bytes"]):
        raise UserError(
            f"{folder / run['name'] / name}.json: measured on {measured['documents']} documents of "
            f"{measured['bytes']} bytes, but the base model on {of_base['documents']} of {of_base['bytes']}; "
            "measure both again"
        )
    return {
        "run": run["name"],
        "tokens": run["tokens"],
        "task": name,
        "metric": BITS_PER_BYTE,
        "n": measured["documents"],
        "score": measured[BITS_PER_BYTE],
        "shown": False,
        "base_score": of_base[BITS_PER_BYTE],
        "difference": measured[BITS_PER_BYTE] - of_base[BITS_PER_BYTE],
    }


def score_rows(
    folder: Path,
    runs: list[dict[str, Any]],
    tasks: dict[str, dict[str, str]],
    corpora: list[str],
    published: dict[str, dict[str, float]],
    seed: int = 0,
) -> list[Row]:
    """All rows of scores.csv by run: each task and metric, the average, bits per byte of each corpus.

    `folder` holds {run}/{task}.json, {task}.samples.jsonl and bits_per_byte.{corpus}.json; `tasks` maps
    a task to its label and the metric that Table 1 shows; `seed` is that of the resampling. The Holm family
    is every shown metric of every trained run; the averages, which sum these up, are a family of their own
    (their p is that of random sign flips). Raises UserError where runs weren't scored on the same items.
    """
    base = base_run(runs)
    of_base = {task: read_answers(samples_path(folder, base, task)) for task in tasks}
    rows: list[Row] = []
    for run in runs:
        of_paper = published.get(run["name"], {})
        shown: list[tuple[Row, list[Pairs]]] = []
        for task, settings in tasks.items():
            found = list(_task_rows(folder, run, of_base[task], task, settings, of_paper.get(task), seed))
            rows += [row for row, _ in found]
            shown += [(row, strata) for row, strata in found if row["shown"]]
        rows.append(
            _average_row(
                [row for row, _ in shown], [strata for _, strata in shown], seed, of_paper.get(AVERAGE)
            )
        )
        rows += [_bits_per_byte_row(folder, run, base, corpus) for corpus in corpora]
    for of_average in (False, True):
        family = [
            row
            for row in rows
            if row.get("mcnemar_p") is not None and (row["task"] == AVERAGE if of_average else row["shown"])
        ]
        for row, adjusted in zip(family, holm([row["mcnemar_p"] for row in family]), strict=True):
            row["mcnemar_p_holm"] = adjusted
    return rows


def write_scores(path: Path, rows: list[Row]) -> None:
    """Write scores.csv, with a column for each letter that some item has as a choice."""
    most = max(sum(name.startswith(ALWAYS) for name in row) for row in rows)
    letters = [f"{ALWAYS}{letter(number)}" for number in range(max(most, FEWEST_LETTERS))]
    before = COLUMNS.index("longest")
    write_rows(path, (*COLUMNS[:before], *letters, *COLUMNS[before:]), rows)


def read_scores(path: Path) -> list[Row]:
    """Read the COLUMNS of scores.csv: numbers as int and float, `shown` and `above_null` as bool, empty cells
    as None."""
    whole = {"tokens", "n", "items_of_full", "gained", "lost"}
    text = {"run", "task", "metric", "null", "null_test"}
    return [typed(row, COLUMNS, whole, text) for row in read_rows(path, COLUMNS)]


def shown_rows(scores: list[Row]) -> dict[tuple[str, str], Row]:
    """The rows that Table 1 shows, by (run, task)."""
    return {(row["run"], row["task"]): row for row in scores if row["shown"]}


def averages(scores: list[Row]) -> dict[str, Row]:
    """The row of each run's average, by run."""
    return {row["run"]: row for row in scores if row["task"] == AVERAGE}


def pairs_of(row: Row) -> Pairs:
    """The 2 x 2 table behind a row of scores.csv."""
    both = round(row["score"] * row["n"]) - row["gained"]
    return Pairs(both, row["gained"], row["lost"], row["n"] - both - row["gained"] - row["lost"])
