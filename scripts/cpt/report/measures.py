"""A metric of a task, and two runs' values of it on the same items. Formulas: docs/statistics.md."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cpt.data_sets import BY_TASK
from cpt.report.statistics import Z_95, Z_POWER, Pairs, pooled

SMALLEST_STRATUM = 30  # items; resampling inside strata of n items understates the variance by 1 / n
# Scores as functions of the weighted mean of the items' values, by lm-eval's name of the aggregation
# (lm_eval.api.metrics). The values of all but the first two are log-likelihoods in nats.
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda mean: mean,
    BY_TASK: lambda mean: mean,
    "perplexity": lambda mean: np.exp(-mean),
    "weighted_perplexity": lambda mean: np.exp(-mean),
    "bits_per_byte": lambda mean: -mean / math.log(2),
}


class Measure(NamedTuple):
    """One metric of one run's answers to a task.

    Attributes:
        aggregation: lm-eval's name of the function of the items' values.
        higher_is_better: False for perplexities and the like.
        score: the evaluation's; None if it isn't a number.
        standard_error: the evaluation's; None if lm-eval gives none.
        values: float64 [items]; None if the aggregation has no value per item (BLEU, F1 of a corpus), or a
            value isn't a number. For BY_TASK they are scaled so that their mean is the score.
        weights: float64 [items], bytes or words; ones where every item counts alike.
    """

    aggregation: str
    higher_is_better: bool
    score: float | None
    standard_error: float | None
    values: np.ndarray | None
    weights: np.ndarray | None

    @property
    def binary(self) -> bool:
        """Whether every item is either right or wrong."""
        return (
            self.values is not None
            and self.aggregation == "mean"
            and bool(np.isin(self.values, (0, 1)).all())
        )

    @property
    def share(self) -> bool:
        """Whether it is like an accuracy: a mean of values between 0 and 1, and higher is better."""
        return (
            self.values is not None
            and self.aggregation == "mean"
            and self.higher_is_better
            and bool(((self.values >= 0) & (self.values <= 1)).all())
        )


class Values(NamedTuple):
    """Values other than right and wrong, of a run and of the one it is compared with, on the same items.

    Attributes:
        run, base: float64 [items], values of each.
        weights: float64 [items], the same for both.
        leaf: int64 [items], the leaf task of each.
        aggregation: one of SCALES.
    """

    run: np.ndarray
    base: np.ndarray
    weights: np.ndarray
    leaf: np.ndarray
    aggregation: str

    @property
    def n(self) -> int:
        """Items."""
        return len(self.run)

    @property
    def strata(self) -> np.ndarray:
        """Int64 [items]: the leaf tasks; for a mean, one stratum if a leaf task has fewer than 30 items."""
        small = np.bincount(self.leaf).min() < SMALLEST_STRATUM
        return np.zeros_like(self.leaf) if self.aggregation in ("mean", BY_TASK) and small else self.leaf

    def score_of(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The score from the sums of values and weights in each stratum, [..., strata].

        Over several leaf tasks it is their mean weighted by items, as in lm-eval.
        """
        items = np.bincount(self.strata)
        return (SCALES[self.aggregation](sums / weights) * (items / items.sum())).sum(-1)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of values, float64 [items], in each stratum."""
        return np.bincount(self.strata, values)

    @property
    def run_score(self) -> float:
        """Score of the run."""
        return float(self.score_of(self.sums(self.run), self.sums(self.weights)))

    @property
    def base_score(self) -> float:
        """Score of the run that it is compared with."""
        return float(self.score_of(self.sums(self.base), self.sums(self.weights)))

    @property
    def difference(self) -> float:
        """Score of the run less that of the other."""
        return self.run_score - self.base_score

    @property
    def mean_square_change(self) -> float:
        """Mean square of the items' changes."""
        return float(((self.run - self.base) ** 2).mean())

    @property
    def detectable_difference(self) -> float:
        """The smallest difference that is found at 5 % (two-sided) with 80 % power; NaN for a single item.

        The test is of the mean of the items' changes, so its detectable change is converted to scores.
        """
        if self.n < 2:
            return math.nan
        error = (self.run - self.base).std(ddof=1) * math.sqrt(self.n) / self.weights.sum()  # of the mean
        weights = self.sums(self.weights)
        moved = self.score_of(self.sums(self.base) + (Z_95 + Z_POWER) * error * weights, weights)
        return float(abs(moved - self.base_score))


# Two runs on one task: 2 x 2 tables of its strata where items are right or wrong, else the items' values.
Paired = Sequence[Pairs] | Values


def whole_of(paired: Paired) -> Pairs | Values:
    """A task as one, with all its strata pooled."""
    return paired if isinstance(paired, Values) else pooled(paired)


def measures_of(samples: list[dict], summary: dict) -> dict[str, Measure]:
    """The metrics of a task in the order of its JSON.

    Args:
        samples: of {task}.samples.jsonl.
        summary: {task}.json.

    Raises:
        KeyError, TypeError, ValueError: an item lacks a metric, or has something else than numbers.
    """
    measures = {}
    for metric, aggregation in summary["aggregations"].items():
        values = weights = None
        entries = [sample[metric] for sample in samples] if aggregation in SCALES else [None]
        if None not in entries:
            numbers = np.array(entries, float)  # [items], or [items, 2] with weights
            values = numbers if numbers.ndim == 1 else numbers[:, 0]
            weights = np.ones(len(entries)) if numbers.ndim == 1 else numbers[:, 1]
            if aggregation == BY_TASK:
                values = values * _shares([sample["task"] for sample in samples])
        measures[metric] = Measure(
            aggregation,
            summary["higher_is_better"].get(metric) is not False,
            summary["metrics"][metric],
            summary["metrics"].get(f"{metric}_stderr"),
            values,
            weights,
        )
    return measures


def _shares(tasks: list[str]) -> np.ndarray:
    """The weight of each item if all tasks weigh the same: n / (tasks * n of its task), float64 [n]."""
    _, task, sizes = np.unique(tasks, return_inverse=True, return_counts=True)
    return len(tasks) / (len(sizes) * sizes[task])
