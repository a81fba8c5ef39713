"""Paired statistics of benchmark scores: tests, intervals, resampling, what a benchmark can detect.

Formulas and sources stand together in docs/statistics.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
Z_POWER = 0.8416212335729143  # 80 % quantile: the power for which detectable differences are stated
SIGNIFICANT = 0.05  # p below it
RESAMPLES = 10_000
FLIPS = 100_000
SMALLEST_STRATUM = 30  # items; resampling inside strata of n items understates the variance by 1 / n


class Pairs(NamedTuple):
    """How a run and the one it is compared with (the base model, mostly) answered the same items."""

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
    discordant = (pairs.gained + pairs.lost) / pairs.n
    return math.sqrt((discordant - pairs.difference**2) / (pairs.n - 1))


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


def binomial_p(correct: int, n: int, share: float) -> float:
    """Two-sided p of the exact binomial test of `correct` of `n` items against a share (0 < share < 1).

    Sums the probabilities of all counts that are no likelier than the one found, as R and scipy do.
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    found = np.arange(n + 1)
    logs = logs[n] - logs - logs[::-1] + found * math.log(share) + (n - found) * math.log1p(-share)
    as_likely = logs <= logs[correct] + 1e-7  # equal ones differ by rounding
    return min(1.0, float(np.exp(logs[as_likely]).sum()))


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
    the two answers differ. A difference can't be larger than q: where q is too small for its own d, the
    answer is the d for which all the items that differ do so in one direction (q = d).

    Returns at most 1, which says that so few items detect nothing.
    """
    found = (
        math.sqrt(discordant)
        * (Z_95 * math.sqrt(n) + Z_POWER * math.sqrt(max(0.0, n - Z_95**2 + Z_POWER**2)))
        / (n + Z_POWER**2)
    )
    if found >= discordant:
        found = 1.0
        for _ in range(100):  # the right side falls with d, and slowly: this converges
            found = min(1.0, (Z_95 + Z_POWER * math.sqrt(1 - found)) ** 2 / n)
    return min(1.0, found)


def resample(strata: Sequence[Pairs], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of run and base model, float64 [10,000] each, in paired resamples of a task's items.

    Drawing the items of a stratum with replacement and counting the four outcomes of `Pairs` is a
    multinomial draw, so the counts are drawn directly. Strata with fewer than 30 items are pooled. Half an
    item is added to each outcome of the task (Agresti and Min 2005): without it, a task on which no item
    changed would have an interval of no width.
    """
    if min(pairs.n for pairs in strata) < SMALLEST_STRATUM:
        strata = [pooled(strata)]
    counts = np.array(strata, float)
    sizes = counts.sum(1)
    likely = counts + 0.5 / len(counts)
    likely /= likely.sum(1, keepdims=True)
    drawn = generator.multinomial(sizes.astype(np.int64), likely, (RESAMPLES, len(counts))).sum(1)
    both, gained, lost, _ = drawn.T / sizes.sum()
    return both + gained, both + lost


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def difference_interval(tasks: Sequence[Sequence[Pairs]], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean difference over tasks (one, or several), by a paired bootstrap.

    A task is a list of strata: the subjects of MMLU, or the whole task.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros(RESAMPLES)
    for strata in tasks:
        run, base = resample(strata, generator)
        total += run - base
    return _percentiles(total / len(tasks))


def relative_change(run_scores: Sequence[float], base_scores: Sequence[float]) -> float:
    """Change in % of the unweighted mean of the run's scores against that of the base model's."""
    return 100 * (sum(run_scores) / sum(base_scores) - 1)


def relative_change_interval(tasks: Sequence[Pairs], seed: int) -> tuple[float, float]:
    """95 % percentile interval of `relative_change` over tasks, by a paired bootstrap over items."""
    generator = np.random.default_rng(seed)
    run_mean = np.zeros(RESAMPLES)
    base_mean = np.zeros(RESAMPLES)
    for pairs in tasks:
        run, base = resample([pairs], generator)
        run_mean += run
        base_mean += base
    drawn = base_mean > 0  # a tiny subset can be resampled to no right answer at all
    return _percentiles(100 * (run_mean[drawn] / base_mean[drawn] - 1))


def mean_difference_p(tasks: Sequence[Pairs], seed: int) -> float:
    """Two-sided p of the mean difference over tasks, by 100,000 random sign flips.

    If run and base model are alike, an item that only one of them has right could as well be the other's:
    McNemar's argument, for the mean over tasks. The observed value counts as one of the draws, so p is never
    0 (Phipson and Smyth 2010).
    """
    generator = np.random.default_rng(seed)
    flipped = np.zeros(FLIPS)
    for pairs in tasks:
        changed = pairs.gained + pairs.lost
        flipped += (2 * generator.binomial(changed, 0.5, FLIPS) - changed) / pairs.n
    observed = abs(sum(pairs.difference for pairs in tasks))
    return (1 + int((np.abs(flipped) >= observed - 1e-12).sum())) / (FLIPS + 1)


class Spread(NamedTuple):
    """The mean of several runs that differ in nothing but their seed, with both sources of its variance.

    Attributes:
        mean: over runs and items.
        between_seeds: standard deviation of the runs' scores.
        item_error, seed_error: standard errors of the mean from the choice of items, and from the choice of
            seeds (0 where the runs differ by no more than their items would let them).
        standard_error: of the mean, from both.
        low, high: 95 % confidence interval of the mean.
    """

    mean: float
    between_seeds: float
    item_error: float
    seed_error: float
    standard_error: float
    low: float
    high: float


def spread(values: np.ndarray, limits: tuple[float, float]) -> Spread:
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
    """
    runs, items = values.shape
    size = runs * items
    mean = values.mean()
    of_runs, of_items = values.mean(1), values.mean(0)
    squares = np.array(
        [
            items * of_runs.var(ddof=1),
            runs * of_items.var(ddof=1),
            ((values - of_runs[:, None] - of_items + mean) ** 2).sum() / ((runs - 1) * (items - 1)),
        ]
    )
    of_seeds, of_choice, rest = squares / size
    # Never less than the items' own part: with few seeds, the difference can come out too small by chance.
    variance = max(of_seeds + of_choice - rest, of_choice)
    degrees = np.array([runs - 1, items - 1, (runs - 1) * (items - 1)])
    parts = ((squares / size) ** 2 / degrees).sum()
    least = min(runs, items) - 1
    half = student_quantile(max(least, variance**2 / parts)) * math.sqrt(variance) if parts else 0.0
    return Spread(
        float(mean),
        float(of_runs.std(ddof=1)),
        math.sqrt(of_choice),
        math.sqrt(max(0.0, of_seeds - rest)),
        math.sqrt(variance),
        float(max(limits[0], mean - half)),
        float(min(limits[1], mean + half)),
    )


def student_quantile(degrees: float) -> float:
    """97.5 % quantile of Student's t with any number of degrees of freedom from 1 on.

    With t = sqrt(degrees) tan(a), the density over the angle a is cos(a)^(degrees - 1) up to a constant.
    """
    width = min(math.pi / 2, 12 / math.sqrt(degrees))  # beyond it lies less than the arithmetic resolves
    angles = np.linspace(0, width, 4_001)
    density = np.cos(angles) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(degrees) * math.tan(float(np.interp(0.95, below / below[-1], angles)))
