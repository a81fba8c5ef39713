"""Every pair of runs on the same items: differences, tests, intervals, and what could be detected."""

import math
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

from cpt.report.measures import Measure, Paired, Values, whole_of
from cpt.report.resampling import difference_error, difference_interval, mean_difference_p
from cpt.report.rows import Row, read_typed
from cpt.report.samples import Answers, averaged_tasks, chosen_metrics, pair
from cpt.report.scores import AVERAGE, MCNEMAR, SIGN_FLIPS
from cpt.report.statistics import (
    Pairs,
    detectable_difference,
    detectable_mean_difference,
    holm,
    mcnemar_p,
    paired_standard_error,
    pooled,
)

COLUMNS = (
    "reference", "reference_tokens", "run", "tokens", "family", "task", "metric", "shown", "n",
    "reference_score", "score", "difference", "standard_error", "ci_low", "ci_high", "gained", "lost",
    "discordant", "test", "p", "p_holm", "detectable_difference", "higher_is_better", "averaged",
)  # fmt: skip


def compare(paired: Paired, seed: int) -> Row:
    """Compare one pair of runs on one task: by the counts in its strata, or by its items' values."""
    row = _statistics([paired], seed)
    if isinstance(paired, Values):
        row |= {"test": SIGN_FLIPS, "p": mean_difference_p([paired], seed)}
        return row | {"detectable_difference": paired.detectable_difference}
    row |= {"test": MCNEMAR, "p": mcnemar_p(row["gained"], row["lost"])}
    return row | {"detectable_difference": detectable_difference(row["discordant"], row["n"])}


def compare_scores(reference: Measure, run: Measure, n: int) -> Row:
    """Compare scores without values per item, so without a test."""
    scores = {"reference_score": reference.score, "score": run.score}
    complete = None not in scores.values()
    return {"n": n, **scores, "difference": run.score - reference.score if complete else None, "test": ""}


def compare_average(tasks: list[Paired], seed: int) -> Row:
    """Compare the unweighted mean over tasks."""
    whole = [whole_of(paired) for paired in tasks]
    reach = detectable_mean_difference(
        [(each.mean_square_change, each.n) for each in whole], all(isinstance(each, Pairs) for each in whole)
    )
    row = _statistics(tasks, seed) | {"test": SIGN_FLIPS, "p": mean_difference_p(whole, seed)}
    return row | {"detectable_difference": reach}


def _statistics(tasks: list[Paired], seed: int) -> Row:
    """Scores, difference and its uncertainty for the mean over tasks, whose errors are independent."""
    whole = [whole_of(paired) for paired in tasks]
    low, high = difference_interval(tasks, seed)
    row = {
        "n": sum(each.n for each in whole),
        "reference_score": mean([each.base_score for each in whole]),
        "score": mean([each.run_score for each in whole]),
        "difference": mean([each.difference for each in whole]),
        "standard_error": error_of_mean([_error(each, seed) for each in whole]),
        "ci_low": low,
        "ci_high": high,
    }
    if counted := [each for each in whole if isinstance(each, Pairs)]:
        total = pooled(counted)
        row |= {"gained": total.gained, "lost": total.lost, "discordant": total.discordant}
    return row


def _error(whole: Pairs | Values, seed: int) -> float:
    """The standard error of a task's difference."""
    return difference_error(whole, seed) if isinstance(whole, Values) else paired_standard_error(whole)


def mean(values: Sequence[float]) -> float:
    """Unweighted mean."""
    return math.fsum(values) / len(values)


def error_of_mean(errors: Sequence[float]) -> float:
    """The standard error of a mean of independent values."""
    return math.sqrt(math.fsum(error**2 for error in errors)) / len(errors)


def comparison_rows(
    runs: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    answers: dict[tuple[str, str], Answers],
    seed: int,
) -> list[Row]:
    """All rows of comparisons.csv: each pair of runs in the order of the config, each task and metric.

    There are four Holm families: the shown metrics of all runs against the base model, those of runs
    against one another, and the averages of either. Metrics that Table 1 doesn't show are in none, and
    metrics without values per item have no test.

    Args:
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None for its first one.
        table_tasks: the tasks that are columns of Table 1.
        answers: of each run to each task.
        seed: of the resampling.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    rows: list[Row] = []
    task_metrics = chosen_metrics(metrics, runs, answers)
    averaged = averaged_tasks(task_metrics, table_tasks, answers)
    for reference, run in combinations(runs, 2):
        names = {
            **{"reference": reference, "reference_tokens": runs[reference], "run": run, "tokens": runs[run]},
            "family": "runs" if runs[reference] else "base",
        }
        pairs: list[Paired] = []
        for task, shown_metric in task_metrics.items():
            theirs, mine = answers[reference, task], answers[run, task]
            for metric, measure in mine.measures.items():
                paired = pair(theirs, mine, metric)
                is_shown = metric == shown_metric and task in table_tasks
                row = {**names, "task": task, "metric": metric, "shown": is_shown}
                row["higher_is_better"] = measure.higher_is_better
                row["averaged"] = is_shown and task in averaged
                if paired is None:
                    row |= compare_scores(theirs.measures[metric], measure, len(mine.keys))
                else:
                    row |= compare(paired, seed)
                rows.append(row)
                if row["averaged"]:
                    pairs.append(paired)
        if pairs:
            kind = dict.fromkeys(("shown", "higher_is_better", "averaged"), True)
            row = {**names, "task": AVERAGE, "metric": AVERAGE, **kind}
            rows.append(row | compare_average(pairs, seed))
    shown_rows = [row for row in rows if row["shown"]]
    for family, average in product(("base", "runs"), (False, True)):
        members = [row for row in shown_rows if row["family"] == family]
        adjust([row for row in members if (row["task"] == AVERAGE) == average], "p")
    return rows


def adjust(family: list[Row], column: str) -> None:
    """Add Holm's adjustment of a column's p values as {column}_holm; rows without p are skipped."""
    family = [row for row in family if row.get(column) is not None]
    for row, adjusted in zip(family, holm([row[column] for row in family]), strict=True):
        row[f"{column}_holm"] = adjusted


def read_comparisons(path: Path) -> list[Row]:
    """Read comparisons.csv: numbers as int and float, yes and no as bool, empty cells as None."""
    return read_typed(path, COLUMNS, {"reference", "run", "family", "task", "metric", "test"})
