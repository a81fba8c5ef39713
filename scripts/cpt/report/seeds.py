"""Runs that differ only in their seed: what is due to the seed, and what to the choice of items."""

import math

import numpy as np

from cpt.report.rows import Row
from cpt.report.samples import Answers, chosen_metrics, require_same_items

COLUMNS = (
    *("run", "runs", "task", "metric", "n", "quantity", "mean", "between_seeds", "item_error", "seed_error"),
    *("standard_error", "ci_low", "ci_high"),
)


def seed_rows(
    groups: dict[str, list[str]],
    base: str,
    metrics: dict[str, str | None],
    answers: dict[tuple[str, str], Answers],
) -> list[Row]:
    """All rows of seeds.csv: for each group of runs and each task the score, and its difference from base.

    Only of metrics that are means over items.

    Args:
        groups: the runs of each group, by its name.
        base: name of the base model's run.
        metrics: of each task; None for its first one.
        answers: of each run to each task.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    rows = []
    for name, runs in groups.items():
        for task, metric in chosen_metrics(metrics, [base, *runs], answers).items():
            reference = answers[base, task]
            for run in runs:
                require_same_items(reference, answers[run, task])
            measures = [answers[run, task].measures[metric] for run in (base, *runs)]
            if measures[0].aggregation != "mean":
                continue
            limit = 1.0 if all(measure.share for measure in measures) else math.inf
            of_base, *scores = [measure.values for measure in measures]
            for quantity, values, limits in (
                ("score", np.array(scores), (0.0 if limit == 1 else -limit, limit)),
                ("difference", np.array(scores) - of_base, (-limit, limit)),
            ):
                rows.append(
                    {
                        **{"run": name, "runs": len(runs), "task": task, "metric": metric},
                        **{"n": values.shape[1], "quantity": quantity},
                        **spread(values, limits),
                    }
                )
    return rows


def spread(values: np.ndarray, limits: tuple[float, float]) -> dict[str, float]:
    """Mean and variance of float64 [runs, items], at least two of each, with both of them random.

    The two-way layout without repetition: the variance of the mean is (MS_runs + MS_items - MS_rest) /
    (runs * items), with Satterthwaite's degrees of freedom (Searle, Casella and McCulloch 1992, chapter 4.7;
    Satterthwaite 1946). The items' part alone is MS_items / (runs * items).

    MS_rest is taken away in the variance, so the degrees can come out far below those of any of the mean
    squares: they are at least the smallest, min(runs, items) - 1. They stay Satterthwaite's where the items'
    part is the larger variance: items - 1, as if the seeds were known to change nothing, covers less (two
    runs that differ by 0.03, 400 items: 91.4 % instead of 93.6 %), because two runs that differ are often
    alike by chance.

    `limits` are the smallest and the largest value that the mean can have; the interval ends there.

    Returns:
        Columns of seeds.csv: mean, over runs and items; between_seeds, the standard deviation of the runs'
        scores; item_error and seed_error, standard errors of the mean from the choice of items and from that
        of seeds (0 where the runs differ by no more than their items would let them); standard_error, from
        both; ci_low and ci_high, the 95 % confidence interval of the mean.
    """
    from scipy.stats import t  # here, since it takes a second to load

    runs, items = values.shape
    size = runs * items
    mean = values.mean()
    of_runs, of_items = values.mean(1), values.mean(0)
    degrees = np.array([runs - 1, items - 1, (runs - 1) * (items - 1)])
    of_rest = ((values - of_runs[:, None] - of_items + mean) ** 2).sum() / degrees[2]
    squares = np.array([items * of_runs.var(ddof=1), runs * of_items.var(ddof=1), of_rest])
    of_seeds, of_choice, rest = squares / size
    # Never less than the items' own part: with few seeds, the difference can come out too small by chance.
    variance = max(of_seeds + of_choice - rest, of_choice)
    parts = ((squares / size) ** 2 / degrees).sum()
    least = min(runs, items) - 1
    half = t.ppf(0.975, max(least, variance**2 / parts)) * math.sqrt(variance) if parts else 0.0
    return {
        "mean": float(mean),
        "between_seeds": float(of_runs.std(ddof=1)),
        "item_error": math.sqrt(of_choice),
        "seed_error": math.sqrt(max(0.0, of_seeds - rest)),
        "standard_error": math.sqrt(variance),
        "ci_low": float(max(limits[0], mean - half)),
        "ci_high": float(min(limits[1], mean + half)),
    }
