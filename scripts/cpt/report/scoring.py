"""Every score of every run with its uncertainty, paired with the base model item by item."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.files import read_json
from cpt.report.comparisons import compare, compare_average
from cpt.report.nulls import null_scores, strongest_null
from cpt.report.rows import Row
from cpt.report.samples import Answers, check_metric, pair
from cpt.report.scores import AVERAGE, BITS_PER_BYTE, base_run
from cpt.report.statistics import Z_95, Pairs, holm, pooled, standard_error, wilson_interval


def score_rows(
    runs: dict[str, int],
    metrics: dict[str, str],
    table_tasks: list[str],
    answers: dict[tuple[str, str], Answers],
    summaries: dict[tuple[str, str], dict[str, Any]],
    bits: dict[tuple[str, str], Path],
    published: dict[str, dict[str, float]],
    seed: int = 0,
) -> list[Row]:
    """All rows of scores.csv by run: each task and metric, the average, bits per byte of each corpus.

    The Holm family is every shown metric of every trained run; the averages, which sum these up, are a family
    of their own (their p is that of random sign flips).

    Args:
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows.
        table_tasks: the tasks that are columns of Table 1.
        answers: of each run to each task.
        summaries: {task}.json of each run and task.
        bits: the file bits_per_byte.{corpus}.json of each run and corpus.
        published: scores of the paper's runs, if they are of the same model.
        seed: of the resampling.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    base = base_run(runs)
    corpora = dict.fromkeys(corpus for _, corpus in bits)
    rows: list[Row] = []
    for run, tokens in runs.items():
        paper = published.get(run, {})
        shown: list[tuple[Row, list[Pairs]]] = []
        for task, metric in metrics.items():
            _check_count(answers[run, task], task, summaries[run, task]["n"])
            check_metric(answers[run, task], task, metric)
            for row, strata in _task_rows(answers[base, task], answers[run, task], seed if tokens else None):
                in_table = row["metric"] == metric and task in table_tasks
                rows.append(
                    {
                        **{"run": run, "tokens": tokens, "task": task, "shown": in_table, **row},
                        "items_of_full": summaries[run, task]["items_of_full"],
                        "published": paper.get(task) if row["metric"] == metric else None,
                    }
                )
                if in_table:
                    shown.append((rows[-1], strata))
        rows.append(_average_row(shown, seed) | {"published": paper.get(AVERAGE)})
        for corpus in corpora:
            row = _bits_per_byte_row(corpus, bits[run, corpus], bits[base, corpus])
            rows.append({"run": run, "tokens": tokens, **row})
    _adjust([row for row in rows if row["shown"]])
    _adjust([row for row in rows if row["task"] == AVERAGE])
    return rows


def _check_count(answers: Answers, task: str, n: int) -> None:
    if n != len(answers.keys):
        raise UserError(
            f"{answers.path}: has {len(answers.keys)} items, but {task}.json beside it counts {n}; "
            "evaluate again"
        )


def _adjust(family: list[Row]) -> None:
    """Holm's p of the trained runs' rows."""
    tested = [row for row in family if "mcnemar_p" in row]
    for row, adjusted in zip(tested, holm([row["mcnemar_p"] for row in tested]), strict=True):
        row["mcnemar_p_holm"] = adjusted


def _task_rows(base: Answers, run: Answers, seed: int | None) -> Iterator[tuple[Row, list[Pairs]]]:
    """What a run's answers to a task give by metric, beside the base model's; `seed` is None for itself."""
    nulls = null_scores(run)
    for metric in run.right:
        strata = pair(base, run, metric)
        pairs = pooled(strata)
        correct = pairs.both + pairs.gained
        low, high = wilson_interval(correct, pairs.n)
        null = strongest_null(run, metric)
        row = {
            "metric": metric,
            "n": pairs.n,
            "score": pairs.run_score,
            "standard_error": standard_error(correct, pairs.n),
            "ci_low": low,
            "ci_high": high,
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
        }
        yield row | (_difference(compare(strata, seed)) if seed is not None else {}), strata


def _difference(compared: Row) -> Row:
    """The columns of scores.csv that say how a run differs from the base model."""
    return {
        "difference_ci_low": compared["ci_low"],
        "difference_ci_high": compared["ci_high"],
        "mcnemar_p": compared["p"],
        "detectable_difference": compared["detectable_difference"],
    }


def _average_row(shown: list[tuple[Row, list[Pairs]]], seed: int) -> Row:
    """The unweighted mean over the shown rows of one run, with the interval of its own paired difference."""
    rows = [row for row, _ in shown]

    def mean(name: str) -> float:
        return math.fsum(row[name] for row in rows) / len(rows)

    error = math.sqrt(math.fsum(row["standard_error"] ** 2 for row in rows)) / len(rows)
    score = mean("score")
    row = {
        **{name: rows[0][name] for name in ("run", "tokens")},
        **{"task": AVERAGE, "metric": AVERAGE, "shown": False},
        **{name: sum(row[name] for row in rows) for name in ("n", "items_of_full", "gained", "lost")},
        "score": score,
        "standard_error": error,
        "ci_low": score - Z_95 * error,
        "ci_high": score + Z_95 * error,
        **{name: mean(name) for name in ("base_score", "difference", "chance", "majority")},
    }
    compared = compare_average([strata for _, strata in shown], seed) if row["tokens"] else None
    return row | (_difference(compared) if compared else {})


def _bits_per_byte_row(corpus: str, path: Path, base_path: Path) -> Row:
    measured, base = read_json(path), read_json(base_path)
    if (measured["documents"], measured["bytes"]) != (base["documents"], base["bytes"]):
        raise UserError(
            f"{path}: measured on {measured['documents']} documents of {measured['bytes']} bytes, but the "
            f"base model on {base['documents']} of {base['bytes']}; measure both again"
        )
    return {
        **{"task": f"{BITS_PER_BYTE}.{corpus}", "metric": BITS_PER_BYTE, "shown": False},
        "n": measured["documents"],
        "score": measured[BITS_PER_BYTE],
        "base_score": base[BITS_PER_BYTE],
        "difference": measured[BITS_PER_BYTE] - base[BITS_PER_BYTE],
    }
