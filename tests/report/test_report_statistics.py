"""Statistics against hand-worked examples, scipy and the paper's own numbers."""

import math

import numpy as np
import pytest
from report_experiment import PUBLISHED

from cpt.report.resampling import relative_change_interval
from cpt.report.score_figures import published_changes
from cpt.report.scores import read_published
from cpt.report.statistics import (
    Pairs,
    binomial_p,
    holm,
    mcnemar_p,
    relative_change,
    standard_error,
    wilson_interval,
)

EDUCATIONAL = ["mmlu", "arc_challenge", "arc_easy", "hellaswag"]
GENERAL = ["winogrande", "boolq", "piqa"]


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)  # zero or one success of six, both tails
    assert mcnemar_p(0, 0) == mcnemar_p(8, 8) == 1.0
    assert mcnemar_p(0, 2000) == pytest.approx(0.0, abs=1e-300)
    # Counts of whole splits, computed exactly in integers.
    tail = 2 * sum(math.comb(4000, changed) for changed in range(1901)) / 2**4000
    assert mcnemar_p(1900, 2100) == mcnemar_p(2100, 1900) == pytest.approx(tail, rel=1e-9)


def test_binomial_by_hand() -> None:
    """Of three items, 0 to 3 are right by chance with probabilities 27, 27, 9 and 1 of 64."""
    assert [binomial_p(right, 3, 0.25) for right in (0, 2, 3)] == pytest.approx([1, 10 / 64, 1 / 64])


def test_wilson_by_hand() -> None:
    z2 = 1.959963984540054**2
    assert wilson_interval(0, 10) == (0.0, pytest.approx(z2 / (10 + z2)))


def test_standard_error_is_that_of_the_mean_of_zeros_and_ones() -> None:
    outcomes = np.array([1] * 13 + [0] * 27)
    assert standard_error(13, 40) == pytest.approx(outcomes.std(ddof=1) / math.sqrt(40))
    assert math.isnan(standard_error(1, 1))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs() -> None:
    pairs = Pairs(both=10, gained=5, lost=3, neither=22)
    assert (pairs.n, pairs.run_score, pairs.base_score) == (40, 15 / 40, 13 / 40)


def test_bootstrap_equals_resampling_of_items() -> None:
    """The multinomial draw has the distribution of drawing the items themselves."""
    pairs = Pairs(both=30, gained=14, lost=6, neither=50)
    low, high = relative_change_interval([pairs], seed=0)
    run = np.repeat([1, 1, 0, 0], pairs)
    base = np.repeat([1, 0, 1, 0], pairs)
    drawn = np.random.default_rng(1).integers(0, 100, (10_000, 100))
    changes = 100 * (run[drawn].mean(1) / base[drawn].mean(1) - 1)
    assert (low, high) == pytest.approx(tuple(np.percentile(changes, [2.5, 97.5])), abs=2.0)
    assert low < relative_change([pairs.run_score], [pairs.base_score]) < high


def test_bootstrap_is_seeded_and_narrows_with_items() -> None:
    few, many = Pairs(12, 4, 3, 21), Pairs(1200, 400, 300, 2100)
    assert relative_change_interval([few], 3) == relative_change_interval([few], 3)
    assert relative_change_interval([few], 3) != relative_change_interval([few], 4)
    width = [high - low for low, high in (relative_change_interval([p], 0) for p in (few, many))]
    assert width[0] > 5 * width[1]


def test_bootstrap_survives_a_resample_without_right_answers() -> None:
    low, high = relative_change_interval([Pairs(1, 0, 0, 3)], 0)
    assert -100 <= low <= 0 <= high


def test_published_averages() -> None:
    published = read_published(PUBLISHED)
    averages = [round(sum(run[task] for task in EDUCATIONAL + GENERAL) / 7, 4) for run in published.values()]
    assert averages == [run["average"] for run in published.values()] == [0.4355, 0.4394, 0.4405]


@pytest.mark.parametrize(
    ("task", "stated"),
    [("mmlu", 8.1), ("hellaswag", 7.6), ("arc_easy", 6.2), ("winogrande", -3.0), ("boolq", -5.2)],
)
def test_published_changes_of_tasks(task: str, stated: float) -> None:
    assert round(published_changes(read_published(PUBLISHED), [task])[2], 1) == stated


def test_published_changes_of_groups() -> None:
    published = read_published(PUBLISHED)
    assert [round(change, 1) for change in published_changes(published, EDUCATIONAL)] == [0.0, 4.9, 6.6]
    # The paper's text says -2.1 and -2.9; its Table 1 gives these.
    assert [round(change, 1) for change in published_changes(published, GENERAL)] == [0.0, -2.0, -2.8]
