"""Paired statistics of benchmark scores: errors, intervals, exact tests, what a benchmark can detect.

Formulas and sources are in docs/statistics.md; cpt.report.resampling has the random methods. No numpy here,
and scipy only inside the functions that use it: it takes a second to load, and most stages that import this
module test nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
Z_POWER = 0.8416212335729143  # 80 % quantile: the power for which detectable differences are stated
SIGNIFICANT = 0.05  # p values below it count as significant


class Pairs(NamedTuple):
    """How a run and the one it is compared with (mostly the base model) answered the same items."""

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

    @property
    def discordant(self) -> float:
        """Share of items that only one of the two answers right."""
        return (self.gained + self.lost) / self.n

    @property
    def mean_square_change(self) -> float:
        """Mean square of the items' changes, which are -1, 0 or 1: the share that differs."""
        return self.discordant

    @property
    def difference(self) -> float:
        """Score of the run less that of the base model."""
        return (self.gained - self.lost) / self.n


def pooled(strata: Sequence[Pairs]) -> Pairs:
    """All strata of a task as one."""
    return Pairs(*map(sum, zip(*strata, strict=True)))


def standard_error(correct: int, n: int) -> float:
    """Standard error of a share: the sample standard deviation (n - 1) over sqrt(n), as lm-eval reports it.

    NaN for a single item.
    """
    if n < 2:
        return math.nan
    share = correct / n
    return math.sqrt(share * (1 - share) / (n - 1))


def paired_standard_error(pairs: Pairs) -> float:
    """Standard error of `Pairs.difference`, from the sample standard deviation of the items' differences.

    NaN for a single item.
    """
    if pairs.n < 2:
        return math.nan
    return math.sqrt((pairs.discordant - pairs.difference**2) / (pairs.n - 1))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927, the score interval without continuity correction)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def binomial_p(correct: int, n: int, share: float) -> float:
    """Two-sided p of the exact binomial test of `correct` of `n` items against a share (0 < share < 1)."""
    from scipy.stats import binomtest

    return float(binomtest(correct, n, share).pvalue)


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: gained ~ Binomial(gained + lost, 1/2) (McNemar 1947).

    1 where no item changed.
    """
    return binomial_p(gained, gained + lost, 0.5) if gained + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p values (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(discordant: float, n: int) -> float:
    """The smallest difference that McNemar's test at 5 % (two-sided) finds with 80 % power.

    Solves Connor's sample size for paired shares (1987, Biometrics 43, page 209) for the difference d:
    n d^2 = (z_0.975 sqrt(q) + z_0.8 sqrt(q - d^2))^2, where q (`discordant`) is the share of items on which
    the two answers differ. A difference can't be larger than q. If q is too small for its own d, the
    result is the d for which all the items that differ do so in one direction (q = d).

    Returns at most 1, which says that so few items detect nothing.
    """
    return _connor(discordant, n, at_most=discordant)


def detectable_mean_difference(tasks: Sequence[tuple[float, int]], counted: bool) -> float:
    """The smallest difference of the mean over tasks that sign flips at 5 % (two-sided) find with 80 % power,
    if every task changes by as much.

    For each task, `tasks` has the mean square q of its items' changes (for right and wrong answers, the share
    that differs) and their number n. The mean over k tasks has the variance sum(q / n) / k^2 without a
    difference and sum((q - d^2) / n) / k^2 with a difference d: Connor's equation with n' = k^2 / sum(1 / n)
    and q' = sum(q / n) / sum(1 / n). `counted` says that all answers are right or wrong, so that d can't
    exceed q'.

    The tasks' own detectable differences can't replace it: for a task too small to find its own, that is
    d = q, many times what the task adds to the noise of the mean.
    """
    inverse = math.fsum(1 / n for _, n in tasks)
    changed = math.fsum(square / n for square, n in tasks) / inverse
    return _connor(changed, len(tasks) ** 2 / inverse, at_most=changed if counted else math.inf)


def _connor(changed: float, n: float, at_most: float) -> float:
    """The d of Connor's equation; if it isn't below `at_most`, the d that solves it with `changed` = d."""
    difference = (
        math.sqrt(changed)
        * (Z_95 * math.sqrt(n) + Z_POWER * math.sqrt(max(0.0, n - Z_95**2 + Z_POWER**2)))
        / (n + Z_POWER**2)
    )
    if difference >= at_most:
        low, difference = 0.0, 1.0
        for _ in range(60):  # bisection: the right side falls with d, so there is one solution
            middle = (low + difference) / 2
            if (Z_95 + Z_POWER * math.sqrt(1 - middle)) ** 2 / n > middle:
                low = middle
            else:
                difference = middle
    return min(1.0, difference)


def relative_change(run_scores: Sequence[float], base_scores: Sequence[float]) -> float:
    """Change in % of the unweighted mean of the run's scores against that of the base model's.

    NaN where the base model answers nothing right.
    """
    if not sum(base_scores):
        return math.nan
    return 100 * (sum(run_scores) / sum(base_scores) - 1)
