"""Runs that differ only in their seed: what is due to the seed, and what to the choice of items."""

from pathlib import Path

import numpy as np

from cpt.report.rows import Row
from cpt.report.samples import pair, read_answers, samples_path, shown_metric
from cpt.report.statistics import spread

COLUMNS = (
    *("run", "runs", "task", "metric", "n", "quantity", "mean", "between_seeds", "item_error", "seed_error"),
    *("standard_error", "ci_low", "ci_high"),
)


def seed_rows(
    folder: Path, groups: dict[str, list[str]], base: str, tasks: dict[str, dict[str, str]]
) -> list[Row]:
    """All rows of seeds.csv: for each group of runs and each task the score, and its difference from base.

    `groups` maps the name of a group to its runs, `tasks` a task to its label and metric. Raises UserError
    where runs weren't scored on the same items.
    """
    rows = []
    for name, runs in groups.items():
        for task, settings in tasks.items():
            metric = settings["metric"]
            of_base = read_answers(samples_path(folder, base, task))
            outcomes = []
            for run in runs:
                path = samples_path(folder, run, task)
                answers = read_answers(path)
                shown_metric(answers, task, metric)
                pair(of_base, answers, metric, str(path))  # for its check that the items are the same
                outcomes.append(answers.right[metric].astype(float))
            scores = np.array(outcomes)
            for quantity, values, limits in (
                ("score", scores, (0.0, 1.0)),
                ("difference", scores - of_base.right[metric], (-1.0, 1.0)),
            ):
                found = spread(values, limits)
                rows.append(
                    {
                        "run": name,
                        "runs": len(runs),
                        "task": task,
                        "metric": metric,
                        "n": values.shape[1],
                        "quantity": quantity,
                        "mean": found.mean,
                        "between_seeds": found.between_seeds,
                        "item_error": found.item_error,
                        "seed_error": found.seed_error,
                        "standard_error": found.standard_error,
                        "ci_low": found.low,
                        "ci_high": found.high,
                    }
                )
    return rows
