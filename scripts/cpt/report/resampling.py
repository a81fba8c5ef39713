"""Intervals and tests by resampling: bootstrap over items or groups of documents, random sign flips.

Formulas and sources are in docs/statistics.md.
"""

import math
from collections.abc import Sequence

import numpy as np

from cpt.report.measures import SMALLEST_STRATUM, Paired, Values
from cpt.report.statistics import Pairs, pooled

RESAMPLES = 10_000
FLIPS = 100_000
DRAWN = 500_000  # items that are drawn at once


def resample(paired: Paired, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of run and base model, float64 [10,000] each, in paired resamples of a task's items."""
    resampler = _resample_values if isinstance(paired, Values) else _resample_pairs
    return resampler(paired, generator)


def _resample_pairs(strata: Sequence[Pairs], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw counts of outcomes. Drawing a stratum's items with replacement and counting the four outcomes of
    `Pairs` is a multinomial draw, so the counts are drawn directly. Strata with fewer than 30 items are
    pooled. Half an item is added to each outcome of the task (Agresti and Min 2005): without it, a task on
    which no item changed would have an interval of no width.
    """
    if min(pairs.n for pairs in strata) < SMALLEST_STRATUM:
        strata = [pooled(strata)]
    counts = np.array(strata, float)
    sizes = counts.sum(1)
    likely = counts + 0.5 / len(counts)
    likely /= likely.sum(1, keepdims=True)
    outcome_counts = generator.multinomial(sizes.astype(np.int64), likely, (RESAMPLES, len(counts))).sum(1)
    both, gained, lost, _ = outcome_counts.T / sizes.sum()
    return both + gained, both + lost


def _resample_values(values: Values, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw items with replacement within their stratum."""
    columns = np.stack([values.run, values.base, values.weights], 1)  # [items, 3]
    strata = values.strata
    sums = np.zeros((3, RESAMPLES, strata.max() + 1))
    for stratum in range(strata.max() + 1):
        rows = columns[strata == stratum]
        step = max(1, DRAWN // len(rows))
        for begin in range(0, RESAMPLES, step):
            draws = min(step, RESAMPLES - begin)
            sums[:, begin : begin + draws, stratum] = (_counts(len(rows), draws, generator) @ rows).T
    run, base, weights = sums
    return values.score_of(run, weights), values.score_of(base, weights)


def _counts(items: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """How often each item occurs when as many items are drawn with replacement: int64 [draws, items]."""
    places = generator.integers(items, size=(draws, items))
    places += items * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * items).reshape(draws, items)


def resampled_sums(parts: np.ndarray, seed: int) -> np.ndarray:
    """Sums, float64 [10,000, quantities], over groups drawn with replacement.

    `parts` [groups, quantities] is what each group adds to each quantity; all are summed over the same draws.
    """
    generator = np.random.default_rng(seed)
    step = max(1, DRAWN // len(parts))
    sizes = [min(step, RESAMPLES - begin) for begin in range(0, RESAMPLES, step)]
    return np.concatenate([_counts(len(parts), draws, generator) @ parts for draws in sizes])


def score_interval(values: Values, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the run's score, by a bootstrap over items."""
    return _percentiles(resample(values, np.random.default_rng(seed))[0])


def difference_error(values: Values, seed: int) -> float:
    """Standard error of the difference: the standard deviation over the paired resamples."""
    run, base = resample(values, np.random.default_rng(seed))
    return float((run - base).std(ddof=1))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def difference_interval(tasks: Sequence[Paired], seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean difference over tasks (one, or several), by a paired bootstrap.

    A task is a list of strata (the subjects of MMLU, or the whole task), or the items' values.
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


def mean_difference_p(tasks: Sequence[Pairs | Values], seed: int) -> float:
    """Two-sided p of the mean difference over tasks, by 100,000 random sign flips.

    If run and base model are alike, an item that only one of them has right could as well be the other's, and
    the two values of an item could as well be swapped: McNemar's argument, for the mean over tasks. The
    observed value counts as one of the draws, so p is never 0 (Phipson and Smyth 2010).

    If a score isn't a mean itself, the test is of the mean of its items' values, with which it moves.
    """
    generator = np.random.default_rng(seed)
    flipped = np.zeros(FLIPS)
    observed = 0.0
    for task in tasks:
        if isinstance(task, Values):
            changes = (task.run - task.base) / task.weights.sum()
            flipped += _flipped(changes[changes != 0], generator)
            observed += changes.sum()
        else:
            changed = task.gained + task.lost
            flipped += (2 * generator.binomial(changed, 0.5, FLIPS) - changed) / task.n
            observed += task.difference
    return (1 + int((np.abs(flipped) >= abs(observed) - 1e-12).sum())) / (FLIPS + 1)


def _flipped(changes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sums, float64 [100,000], of changes [items] with random signs."""
    step = max(1, DRAWN // max(1, len(changes)))
    sums = []
    for begin in range(0, FLIPS, step):
        shape = (min(step, FLIPS - begin), len(changes))
        size = math.prod(shape)
        heads = np.unpackbits(np.frombuffer(generator.bytes(-(-size // 8)), np.uint8), count=size)
        sums.append(2 * (heads.reshape(shape).astype(float) @ changes) - changes.sum())
    return np.concatenate(sums)
