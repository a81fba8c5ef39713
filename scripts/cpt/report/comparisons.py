"""Every pair of runs on the same items: differences, tests, intervals, and what could be detected."""

import math
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from cpt.report.resampling import difference_interval, mean_difference_p
from cpt.report.rows import Row, read_rows, typed
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
    pairs = pooled(strata)
    low, high = difference_interval([strata], seed)
    discordant = (pairs.gained + pairs.lost) / pairs.n
    return {
        "n": pairs.n,
        "reference_score": pairs.base_score,
        "score": pairs.run_score,
        "difference": pairs.difference,
        "standard_error": paired_standard_error(pairs),
        "ci_low": low,
        "ci_high": high,
        "gained": pairs.gained,
        "lost": pairs.lost,
        "discordant": discordant,
        "test": "mcnemar",
        "p": mcnemar_p(pairs.gained, pairs.lost),
        "detectable_difference": detectable_difference(discordant, pairs.n),
    }


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _joint(errors: list[float]) -> float:
    """The standard error (or what is proportional to it) of a mean of independent values."""
    return math.sqrt(math.fsum(error**2 for error in errors)) / len(errors)


def compare_average(tasks: list[list[Pairs]], seed: int) -> Row:
    """The same of the unweighted mean over tasks; the tasks' errors are independent of one another."""
    whole = [pooled(strata) for strata in tasks]
    low, high = difference_interval(tasks, seed)
    n, gained, lost = (sum(getattr(pairs, name) for pairs in whole) for name in ("n", "gained", "lost"))
    detectable = [detectable_difference((pairs.gained + pairs.lost) / pairs.n, pairs.n) for pairs in whole]
    return {
        "n": n,
        "reference_score": _mean([pairs.base_score for pairs in whole]),
        "score": _mean([pairs.run_score for pairs in whole]),
        "difference": _mean([pairs.difference for pairs in whole]),
        "standard_error": _joint([paired_standard_error(pairs) for pairs in whole]),
        "ci_low": low,
        "ci_high": high,
        "gained": gained,
        "lost": lost,
        "discordant": (gained + lost) / n,
        "test": "sign_flips",
        "p": mean_difference_p(whole, seed),
        "detectable_difference": _joint(detectable),
    }


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
    _adjust(row for row in rows if row["shown"])
    return rows


def _adjust(rows: Iterable[Row]) -> None:
    """Holm's p in each family."""
    families: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        families.setdefault((row["family"], row["task"] == AVERAGE), []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = adjusted


def read_comparisons(path: Path) -> list[Row]:
    """Read comparisons.csv: numbers as int and float, `shown` as bool, empty cells as None."""
    whole = {"reference_tokens", "tokens", "n", "gained", "lost"}
    text = {"reference", "run", "family", "task", "metric", "test"}
    return [typed(row, COLUMNS, whole, text) for row in read_rows(path, COLUMNS)]
