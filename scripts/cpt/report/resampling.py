"""Intervals and tests by resampling: paired bootstrap over items, random sign flips.

Formulas and sources are in docs/statistics.md.
"""

from collections.abc import Sequence

import numpy as np

from cpt.report.statistics import Pairs, pooled

RESAMPLES = 10_000
FLIPS = 100_000
SMALLEST_STRATUM = 30  # items; resampling inside strata of n items understates the variance by 1 / n


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
