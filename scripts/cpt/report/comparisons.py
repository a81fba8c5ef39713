"""Every pair of runs on the same items: differences, tests, intervals, and what could be detected."""

import math
from itertools import combinations, product
from pathlib import Path

from cpt.report.resampling import difference_interval, mean_difference_p
from cpt.report.rows import Row, read_typed
from cpt.report.samples import Answers, check_metric, pair
from cpt.report.scores import AVERAGE
from cpt.report.statistics import (
    Pairs,
    detectable_difference,
    holm,
    mcnemar_p,
    paired_standard_error,
    pooled,
)

COLUMNS = (
    *("reference", "reference_tokens", "run", "tokens", "family", "task", "metric", "shown", "n"),
    *("reference_score", "score", "difference", "standard_error", "ci_low", "ci_high", "gained", "lost"),
    *("discordant", "test", "p", "p_holm", "detectable_difference"),
)


def compare(strata: list[Pairs], seed: int) -> Row:
    """The statistics of one pair of runs on one task; `strata` are the subjects of MMLU, or one."""
    row = _statistics([strata], seed)
    return row | {"test": "mcnemar", "p": mcnemar_p(row["gained"], row["lost"])}


def compare_average(tasks: list[list[Pairs]], seed: int) -> Row:
    """The same of the unweighted mean over tasks."""
    p = mean_difference_p([pooled(strata) for strata in tasks], seed)
    return _statistics(tasks, seed) | {"test": "sign_flips", "p": p}


def _statistics(tasks: list[list[Pairs]], seed: int) -> Row:
    """Scores, difference and its uncertainty, in the mean over tasks, whose errors are independent."""
    whole = [pooled(strata) for strata in tasks]
    total = pooled(whole)
    low, high = difference_interval(tasks, seed)
    return {
        "n": total.n,
        "reference_score": mean([pairs.base_score for pairs in whole]),
        "score": mean([pairs.run_score for pairs in whole]),
        "difference": mean([pairs.difference for pairs in whole]),
        "standard_error": error_of_mean([paired_standard_error(pairs) for pairs in whole]),
        "ci_low": low,
        "ci_high": high,
        "gained": total.gained,
        "lost": total.lost,
        "discordant": total.discordant,
        "detectable_difference": error_of_mean(
            [detectable_difference(pairs.discordant, pairs.n) for pairs in whole]
        ),
    }


def mean(values: list[float]) -> float:
    """Unweighted mean."""
    return math.fsum(values) / len(values)


def error_of_mean(errors: list[float]) -> float:
    """The standard error (or what is proportional to it) of a mean of independent values."""
    return math.sqrt(math.fsum(error**2 for error in errors)) / len(errors)


def comparison_rows(
    runs: dict[str, int],
    metrics: dict[str, str],
    table_tasks: list[str],
    answers: dict[tuple[str, str], Answers],
    seed: int,
) -> list[Row]:
    """All rows of comparisons.csv: each pair of runs in the order of the config, each task and metric.

    There are four Holm families: the shown metrics of all runs against the base model, those of runs
    against one another, and the averages of either. Metrics that Table 1 doesn't show are in none.

    Args:
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows.
        table_tasks: the tasks that are columns of Table 1.
        answers: of each run to each task.
        seed: of the resampling.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    rows: list[Row] = []
    for reference, run in combinations(runs, 2):
        names = {
            **{"reference": reference, "reference_tokens": runs[reference], "run": run, "tokens": runs[run]},
            "family": "runs" if runs[reference] else "base",
        }
        shown: list[list[Pairs]] = []
        for task, shown_metric in metrics.items():
            mine = answers[run, task]
            check_metric(mine, task, shown_metric)
            for metric in mine.right:
                strata = pair(answers[reference, task], mine, metric)
                in_table = metric == shown_metric and task in table_tasks
                row = {**names, "task": task, "metric": metric, "shown": in_table}
                rows.append(row | compare(strata, seed))
                if in_table:
                    shown.append(strata)
        row = {**names, "task": AVERAGE, "metric": AVERAGE, "shown": True}
        rows.append(row | compare_average(shown, seed))
    shown_rows = [row for row in rows if row["shown"]]
    for family, average in product(("base", "runs"), (False, True)):
        members = [row for row in shown_rows if row["family"] == family]
        adjust([row for row in members if (row["task"] == AVERAGE) == average], "p")
    return rows


def adjust(family: list[Row], column: str) -> None:
    """Add Holm's adjustment of the p values in a column, as {column}_holm."""
    for row, adjusted in zip(family, holm([row[column] for row in family]), strict=True):
        row[f"{column}_holm"] = adjusted


def read_comparisons(path: Path) -> list[Row]:
    """Read comparisons.csv: numbers as int and float, `shown` as bool, empty cells as None."""
    return read_typed(path, COLUMNS, {"reference", "run", "family", "task", "metric", "test"})
