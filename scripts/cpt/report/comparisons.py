"""Every pair of runs on the same items: differences, tests, intervals, and what could be detected."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

from cpt.report.rows import Row, read_rows, typed, write_rows
from cpt.report.samples import Answers, pair, read_answers, samples_path, shown_metric
from cpt.report.statistics import (
    Pairs,
    detectable_difference,
    difference_interval,
    holm,
    mcnemar_p,
    mean_difference_p,
    paired_standard_error,
    pooled,
)

AVERAGE = "average"  # the task, and its metric, of the unweighted mean over the tasks as Table 1 shows them
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
    folder: Path, runs: list[dict[str, Any]], tasks: dict[str, dict[str, Any]], seed: int
) -> list[Row]:
    """All rows of comparisons.csv: each pair of runs in the order of the config, each task and metric.

    There are four Holm families: the shown metrics of all runs against the base model, those of runs
    against one another, and the averages of either. Metrics that Table 1 doesn't show are in none.

    Raises UserError where runs weren't scored on the same items.
    """
    answers: dict[tuple[str, str], Answers] = {
        (run["name"], task): read_answers(samples_path(folder, run["name"], task))
        for run in runs
        for task in tasks
    }
    rows: list[Row] = []
    for reference, run in combinations(runs, 2):
        names = {
            "reference": reference["name"],
            "reference_tokens": reference["tokens"],
            "run": run["name"],
            "tokens": run["tokens"],
            "family": "runs" if reference["tokens"] else "base",
        }
        shown: list[list[Pairs]] = []
        for task, settings in tasks.items():
            mine = answers[run["name"], task]
            shown_metric(mine, task, settings["metric"])
            for metric in mine.right:
                shown_here = metric == settings["metric"] and settings.get("in_table", True)
                where = str(samples_path(folder, run["name"], task))
                strata = pair(answers[reference["name"], task], mine, metric, where)
                row = {**names, "task": task, "metric": metric, "shown": shown_here}
                rows.append(row | compare(strata, seed))
                if row["shown"]:
                    shown.append(strata)
        row = {**names, "task": AVERAGE, "metric": AVERAGE, "shown": True}
        rows.append(row | compare_average(shown, seed))
    for family in ("base", "runs"):
        for of_average in (False, True):
            members = [
                row
                for row in rows
                if row["shown"] and row["family"] == family and (row["task"] == AVERAGE) == of_average
            ]
            for row, adjusted in zip(members, holm([row["p"] for row in members]), strict=True):
                row["p_holm"] = adjusted
    return rows


def write_comparisons(path: Path, rows: list[Row]) -> None:
    """Write comparisons.csv: only a header where there is one run."""
    write_rows(path, COLUMNS, rows)


def read_comparisons(path: Path) -> list[Row]:
    """Read comparisons.csv: numbers as int and float, `shown` as bool, empty cells as None."""
    whole = {"reference_tokens", "tokens", "n", "gained", "lost"}
    text = {"reference", "run", "family", "task", "metric", "test"}
    return [typed(row, COLUMNS, whole, text) for row in read_rows(path, COLUMNS)]
