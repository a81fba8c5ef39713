"""Paired statistics of benchmark scores: intervals, tests, resampling."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
RESAMPLES = 10_000


class Pairs(NamedTuple):
    """How a run and the base model answered the same items: a 2 x 2 table of counts."""

    both: int  # right in both
    gained: int  # wrong in the base model, right in the run
    lost: int  # right in the base model, wrong in the run
    neither: int

    @property
    def n(self) -> int:
        """Items."""
        return sum(self)

    @property
    def run_score(self) -> float:
        """Share of items that the run answers right."""
        return (self.both + self.gained) / self.n

    @property
    def base_score(self) -> float:
        """Share of items that the base model answers right."""
        return (self.both + self.lost) / self.n


def standard_error(correct: int, n: int) -> float:
    """Standard error of a share: the sample standard deviation (n - 1) over sqrt(n), as lm-eval reports it.

    NaN for a single item.
    """
    if n < 2:
        return math.nan
    share = correct / n
    return math.sqrt(share * (1 - share) / (n - 1))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927, the score interval without continuity correction)."""
    share = correct / n
    denominator = 1 + Z_95**2 / n
    centre = (share + Z_95**2 / (2 * n)) / denominator
    half = Z_95 / denominator * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: gained ~ Binomial(gained + lost, 1/2) (McNemar 1947).

    Computed in whole numbers, so it is exact for any count; 1 where no item changed.
    """
    changed = gained + lost
    ways = term = 1  # binomial coefficients (changed choose k), summed over k = 0 .. min(gained, lost)
    for k in range(min(gained, lost)):
        term = term * (changed - k) // (k + 1)
        ways += term
    return min(1.0, 2 * ways / 2**changed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p values (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def relative_change(run_scores: Sequence[float], base_scores: Sequence[float]) -> float:
    """Change in % of the unweighted mean of the run's scores against that of the base model's."""
    return 100 * (sum(run_scores) / sum(base_scores) - 1)


def relative_change_interval(tasks: Sequence[Pairs], seed: int) -> tuple[float, float]:
    """95 % percentile interval of `relative_change` over tasks, by a paired bootstrap over items.

    Drawing n items with replacement and counting the four outcomes of `Pairs` is a multinomial draw,
    so the counts are drawn directly: 10,000 resamples, each task on its own, base and run together.
    """
    generator = np.random.default_rng(seed)
    run_mean = np.zeros(RESAMPLES)
    base_mean = np.zeros(RESAMPLES)
    for pairs in tasks:
        both, gained, lost, _ = generator.multinomial(pairs.n, np.array(pairs) / pairs.n, RESAMPLES).T
        run_mean += (both + gained) / pairs.n
        base_mean += (both + lost) / pairs.n
    drawn = base_mean > 0  # a tiny subset can be resampled to no right answer at all
    low, high = np.percentile(100 * (run_mean[drawn] / base_mean[drawn] - 1), [2.5, 97.5])
    return float(low), float(high)
