"""Scores with and without the items that share words with the training text."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cpt.data_sets import CLOZE
from cpt.report.comparisons import compare
from cpt.report.measures import whole_of
from cpt.report.rows import Row, read_typed
from cpt.report.samples import Answers, Item, chosen_metrics, pair
from cpt.report.scores import base_run

COLUMNS = (
    "run", "tokens", "task", "metric", "higher_is_better", "items", "touched", "score", "score_touched",
    "score_untouched", "base_untouched", "difference", "difference_untouched", "ci_low", "ci_high", "test",
    "p", "detectable_difference",
)  # fmt: skip


def touched_items(reports: Iterable[dict[str, Any]]) -> set[Item]:
    """The items, by leaf task and number, that share words with a document left in the training text.

    Args:
        reports: of the stage `decontaminate`, of all shards that are trained on.
    """
    return {
        (hit["task"], hit["item"])
        for report in reports
        if not report["settings"]["drop"]
        for hit in report["hits"]
    }


def is_touched(answers: Answers, touched: set[Item]) -> np.ndarray:
    """Bool [items]: which are touched. A cloze question counts as the question that it was made from."""
    return np.array([(leaf.removesuffix(CLOZE), item) in touched for leaf, item in answers.keys])


def part_of(answers: Answers, chosen: np.ndarray) -> Answers:
    """Answers to the chosen items (bool [items]) only, without their choices."""
    keys = [key for key, inside in zip(answers.keys, chosen, strict=True) if inside]
    hashes = [each for each, inside in zip(answers.hashes, chosen, strict=True) if inside]
    measures = {
        metric: measure._replace(values=measure.values[chosen], weights=measure.weights[chosen])
        for metric, measure in answers.measures.items()
        if measure.values is not None
    }
    leaf = np.unique(answers.leaf[chosen], return_inverse=True)[1]
    return answers._replace(keys=keys, hashes=hashes, measures=measures, leaf=leaf, choices=None)


def touched_rows(
    runs: dict[str, int],
    metrics: dict[str, str | None],
    answers: dict[tuple[str, str], Answers],
    touched: set[Item],
    seed: int,
) -> list[Row]:
    """All rows of touched.csv: each run and task, except metrics without values per item.

    The interval, test and detectable difference are those of the untouched items.

    Args:
        runs: training tokens of each run.
        metrics: the metric of each task; None for its first one.
        answers: of each run to each task.
        touched: the items that share words with training text.
        seed: of the resampling.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    base, rows = base_run(runs), []
    for task, metric in chosen_metrics(metrics, runs, answers).items():
        inside = is_touched(answers[base, task], touched)
        for run, tokens in runs.items():
            both = answers[base, task], answers[run, task]
            if (paired := pair(*both, metric)) is None:
                continue
            row: Row = {"run": run, "tokens": tokens, "task": task, "metric": metric}
            row["higher_is_better"] = both[1].measures[metric].higher_is_better
            row |= {"items": len(inside), "touched": int(inside.sum())}
            row |= {"score": whole_of(paired).run_score, "difference": whole_of(paired).difference}
            if inside.any():
                row["score_touched"] = whole_of(
                    pair(*(part_of(each, inside) for each in both), metric)
                ).run_score
            if not inside.all():
                apart = pair(*(part_of(each, ~inside) for each in both), metric)
                row |= {"score_untouched": whole_of(apart).run_score}
                row |= {"base_untouched": whole_of(apart).base_score}
                row["difference_untouched"] = whole_of(apart).difference
                comparison = compare(apart, seed) if tokens else {}
                row |= {name: comparison.get(name) for name in ("ci_low", "ci_high", "test", "p")}
                row["detectable_difference"] = comparison.get("detectable_difference")
            rows.append(row)
    return sorted(rows, key=lambda row: list(runs).index(row["run"]))


def read_touched(path: Path) -> list[Row]:
    """Read touched.csv: numbers as int and float, empty cells as None."""
    return read_typed(path, COLUMNS, {"run", "task", "metric", "test"})
