"""Runs that differ only in their seed: what is due to the seed, and what to the choice of items."""

import math
from collections.abc import Sequence

import numpy as np

from cpt.report.rows import Row
from cpt.report.samples import Answers, averaged_tasks, chosen_metrics, require_same_items
from cpt.report.scores import AVERAGE

COLUMNS = (
    "run", "runs", "task", "metric", "n", "quantity", "mean", "between_seeds", "item_error", "seed_error",
    "standard_error", "ci_low", "ci_high",
)  # fmt: skip


def seed_rows(
    groups: dict[str, list[str]],
    base: str,
    metrics: dict[str, str | None],
    table_tasks: list[str],
    answers: dict[tuple[str, str], Answers],
) -> list[Row]:
    """All rows of seeds.csv: for each group of runs and each task the score, and its difference from base;
    last those of the average over the tasks in Table 1's average.

    Only metrics that are means over items have rows.

    Args:
        groups: the runs of each group, by its name.
        base: name of the base model's run.
        metrics: of each task; None for its first one.
        table_tasks: the tasks that are columns of Table 1.
        answers: of each run to each task.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    rows = []
    for name, runs in groups.items():
        task_metrics = chosen_metrics(metrics, [base, *runs], answers)
        averaged = averaged_tasks(task_metrics, table_tasks, answers)
        averaged_values = []
        for task, metric in task_metrics.items():
            reference = answers[base, task]
            for run in runs:
                require_same_items(reference, answers[run, task])
            measures = [answers[run, task].measures[metric] for run in (base, *runs)]
            if measures[0].aggregation != "mean":
                continue
            values = np.array([measure.values for measure in measures])  # [base and runs, items]
            if task in averaged:
                averaged_values.append(values)
            limit = 1.0 if all(measure.share for measure in measures) else math.inf
            rows += _rows({"run": name, "task": task, "metric": metric}, [values], limit)
        if averaged_values:
            rows += _rows({"run": name, "task": AVERAGE, "metric": AVERAGE}, averaged_values, 1.0)
    return rows


def _rows(names: Row, tasks: Sequence[np.ndarray], limit: float) -> list[Row]:
    """The rows of the score and of its difference, for one task or for the mean over several.

    `tasks` are float64 [base and runs, items], with an absolute value of at most `limit`, which is 1 for
    shares.
    """
    counts = {"runs": len(tasks[0]) - 1, "n": sum(values.shape[1] for values in tasks)}
    return [
        {**names, **counts, "quantity": quantity, **spread(values, limits)}
        for quantity, values, limits in (
            ("score", [values[1:] for values in tasks], (0.0 if limit == 1 else -limit, limit)),
            ("difference", [values[1:] - values[0] for values in tasks], (-limit, limit)),
        )
    ]


def spread(tasks: Sequence[np.ndarray], limits: tuple[float, float]) -> dict[str, float]:
    """Mean over tasks of float64 [runs, items], at least two of each, with both runs and items random.

    A task is a two-way layout without repetition. In the variance of its mean, MS_items / (runs * items) is
    the items' part; MS_rest / (runs * items) is also in the variance between the runs' means. For the mean
    over k tasks, whose items are independent, these are the sums over k^2. The seeds' part is the variance
    between the runs' scores, over their number, less the rest's (Searle, Casella and McCulloch 1992, chapter
    4.7), but not below 0.

    The interval's half width is sqrt(t_runs^2 * variance between the scores / runs + sum of t_items^2 * (each
    task's items' part less its rest)), with Student's 97.5 % quantiles for runs - 1 and items - 1 degrees of
    freedom: Banerjee (1960, Sankhya 22, page 357) proved that such an interval covers at least 95 %. The rest
    stays in the first term, which has few degrees: without it, coverage was 86 % with two seeds.
    Satterthwaite's degrees for the whole gave 90 %, since two runs that differ are often alike by chance.

    `limits` are the smallest and the largest value that the mean can have; the interval ends there.

    Returns:
        Columns of seeds.csv: mean, over tasks, runs and items; between_seeds, the standard deviation of the
        runs' scores; item_error and seed_error, standard errors of the mean from the choice of items and from
        that of seeds (0 where the runs differ by no more than their items would let them); standard_error,
        from both; ci_low and ci_high, the 95 % confidence interval of the mean.
    """
    from scipy.stats import t  # here, since it takes a second to load

    scores = np.mean([values.mean(1) for values in tasks], 0)  # [runs]
    runs = len(scores)
    item_variance = rest_variance = items_reach = 0.0  # variances of the mean; the last one times t^2
    for values in tasks:
        items, item_means = values.shape[1], values.mean(0)
        rest = values - values.mean(1)[:, None] - item_means + values.mean()
        item_part = item_means.var(ddof=1) / items / len(tasks) ** 2
        rest_part = (rest**2).sum() / ((runs - 1) * (items - 1) * runs * items) / len(tasks) ** 2
        item_variance += item_part
        rest_variance += rest_part
        items_reach += t.ppf(0.975, items - 1) ** 2 * max(0.0, item_part - rest_part)
    mean, run_variance = scores.mean(), scores.var(ddof=1) / runs
    seed_variance = max(0.0, run_variance - rest_variance)
    half = math.sqrt(t.ppf(0.975, runs - 1) ** 2 * run_variance + items_reach)
    return {
        "mean": float(mean),
        "between_seeds": float(scores.std(ddof=1)),
        "item_error": math.sqrt(item_variance),
        "seed_error": math.sqrt(seed_variance),
        "standard_error": math.sqrt(item_variance + seed_variance),
        "ci_low": float(max(limits[0], mean - half)),
        "ci_high": float(min(limits[1], mean + half)),
    }
