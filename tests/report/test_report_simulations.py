"""Tests and intervals on simulated data whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binom, kstest, t

from cpt.report import resampling
from cpt.report.resampling import difference_interval, mean_difference_p, relative_change_interval
from cpt.report.seeds import spread
from cpt.report.statistics import (
    Z_95,
    Z_POWER,
    Pairs,
    detectable_difference,
    mcnemar_p,
    paired_standard_error,
    wilson_interval,
)

SIMULATIONS = 2000
COVERAGE = (0.93, 0.97)


def simulated(n: int, shares: tuple[float, ...], seed: int = 0) -> list[Pairs]:
    """2 x 2 tables of n items with these true shares (both, gained, lost, neither)."""
    drawn = np.random.default_rng(seed).multinomial(n, shares, SIMULATIONS)
    return [Pairs(*map(int, counts)) for counts in drawn]


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples do for thousands of simulations."""
    monkeypatch.setattr(resampling, "RESAMPLES", 400)
    monkeypatch.setattr(resampling, "FLIPS", 1000)


@pytest.mark.parametrize(("n", "changed"), [(50, 0.1), (1172, 0.2), (14042, 0.06)])
def test_mcnemar_keeps_its_level_under_the_null(n: int, changed: float) -> None:
    """P(p <= level) never exceeds the level, and comes close to it where enough items change."""
    tables = simulated(n, (0.3, changed / 2, changed / 2, 0.7 - changed))
    p_values = np.array([mcnemar_p(pairs.gained, pairs.lost) for pairs in tables])
    for level in (0.01, 0.05, 0.2, 0.5):
        noise = 3 * math.sqrt(level * (1 - level) / SIMULATIONS)
        assert (p_values <= level).mean() <= level + noise
    if n > 1000:
        assert (p_values <= 0.05).mean() > 0.03


def test_sign_flips_give_uniform_p_values_under_the_null(fewer_draws: None) -> None:
    """Differences of a mean over tasks of unlike sizes hardly tie, so p is uniform."""
    tasks = [
        simulated(n, (0.3, 0.06, 0.06, 0.58), seed) for seed, n in enumerate((1172, 2376, 1267, 3270, 1838))
    ]
    p_values = [mean_difference_p(of_all, seed) for seed, of_all in enumerate(zip(*tasks, strict=True))]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert (np.array(p_values) <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_sign_flips_of_one_task_are_mcnemars_test() -> None:
    for pairs in (Pairs(40, 30, 18, 60), Pairs(5, 3, 9, 83), Pairs(9, 0, 0, 1)):
        assert mean_difference_p([pairs], 0) == pytest.approx(mcnemar_p(pairs.gained, pairs.lost), abs=0.005)


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(("n", "shares"), [(300, (0.35, 0.07, 0.04, 0.54)), (1172, (0.2, 0.06, 0.05, 0.69))])
def test_coverage_of_a_difference(fewer_draws: None, n: int, shares: tuple[float, ...]) -> None:
    found = [difference_interval([[pairs]], seed) for seed, pairs in enumerate(simulated(n, shares))]
    assert COVERAGE[0] <= covered(found, shares[1] - shares[2]) <= COVERAGE[1]


def test_coverage_of_a_difference_with_strata(fewer_draws: None) -> None:
    """Subjects that differ in level and in change, with a hundred items each, as in MMLU."""
    subjects = [(0.2 + 0.1 * k, 0.02 + 0.02 * k, 0.05, 0.73 - 0.12 * k) for k in range(3)]
    tables = zip(*(simulated(100, shares, seed) for seed, shares in enumerate(subjects)), strict=True)
    truth = float(np.mean([gained - lost for _, gained, lost, _ in subjects]))
    found = [difference_interval([list(strata)], seed) for seed, strata in enumerate(tables)]
    assert COVERAGE[0] <= covered(found, truth) <= COVERAGE[1]


def test_coverage_of_the_mean_over_tasks_and_of_a_relative_change(fewer_draws: None) -> None:
    tasks = {1172: (0.2, 0.06, 0.05, 0.69), 2376: (0.3, 0.1, 0.06, 0.54)}
    tables = list(zip(*(simulated(n, shares, n) for n, shares in tasks.items()), strict=True))
    truth = float(np.mean([gained - lost for _, gained, lost, _ in tasks.values()]))
    found = [difference_interval([[pairs] for pairs in of_all], s) for s, of_all in enumerate(tables)]
    assert COVERAGE[0] <= covered(found, truth) <= COVERAGE[1]
    of_base = sum(both + lost for both, _, lost, _ in tasks.values())
    change = 100 * len(tasks) * truth / of_base
    found = [relative_change_interval(of_all, seed) for seed, of_all in enumerate(tables)]
    assert COVERAGE[0] <= covered(found, change) <= COVERAGE[1]


def test_few_items_have_no_interval_of_no_width(fewer_draws: None) -> None:
    """On fifty items that hardly change, intervals are wide rather than wrong."""
    shares = (0.35, 0.03, 0.02, 0.6)
    found = [difference_interval([[pairs]], seed) for seed, pairs in enumerate(simulated(50, shares))]
    assert covered(found, 0.01) >= 0.95
    low, high = difference_interval([[Pairs(20, 0, 0, 30)]], 0)
    assert low < 0 < high


def test_subjects_with_few_items_are_pooled(fewer_draws: None) -> None:
    """Resampling inside strata of one item would always give the same again."""
    single = [Pairs(1, 0, 0, 0), Pairs(0, 1, 0, 0), Pairs(0, 0, 1, 0), Pairs(0, 0, 0, 1)] * 10
    low, high = difference_interval([single], 0)
    assert high - low > 0.3


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_coverage_of_a_score(share: float) -> None:
    correct = np.random.default_rng(0).binomial(200, share, SIMULATIONS)
    assert COVERAGE[0] <= covered([wilson_interval(int(k), 200) for k in correct], share) <= COVERAGE[1]


def power(n: int, gained: float, lost: float) -> float:
    """Share of simulated experiments that the exact test finds at 5 %."""
    drawn = np.random.default_rng(0).multinomial(n, (gained, lost, 1 - gained - lost), 20_000)
    p_values = 2 * binom.cdf(drawn[:, :2].min(1), drawn[:, :2].sum(1), 0.5)
    return float((p_values <= 0.05).mean())


@pytest.mark.parametrize(
    ("n", "changed"), [(1172, 0.15), (2376, 0.2), (3270, 0.08), (14042, 0.05), (14042, 0.3)]
)
def test_detectable_difference_has_eighty_percent_power(n: int, changed: float) -> None:
    """The exact test is a little weaker than the normal approximation behind the formula."""
    found = detectable_difference(changed, n)
    assert 0.76 <= power(n, (changed + found) / 2, (changed - found) / 2) <= 0.82
    assert power(n, (changed + found / 2) / 2, (changed - found / 2) / 2) < 0.4  # half of it is mostly missed
    assert n * found**2 == pytest.approx(
        (Z_95 * math.sqrt(changed) + Z_POWER * math.sqrt(changed - found**2)) ** 2
    )


def test_detectable_difference_where_hardly_any_item_changes() -> None:
    """A difference needs as many changed items: with fifty, fewer than six can't be significant at all."""
    found = detectable_difference(0.02, 50)
    assert found == detectable_difference(0.0, 50) == pytest.approx(0.15, abs=0.01)
    assert power(50, found, 0.0) >= 0.75
    assert detectable_difference(0.5, 1) == detectable_difference(0.0, 1) == 1.0


def test_paired_standard_error_is_that_of_the_items_differences() -> None:
    pairs = Pairs(12, 7, 3, 18)
    differences = np.repeat([0, 1, -1, 0], pairs)
    assert paired_standard_error(pairs) == pytest.approx(differences.std(ddof=1) / math.sqrt(40))
    assert math.isnan(paired_standard_error(Pairs(1, 0, 0, 0)))


def test_spread_by_hand() -> None:
    """Two runs, three items: means 2/3 and 1/3; MS_runs = 1/6, MS_items = 1/2, MS_rest = 1/6."""
    found = spread(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), (-9, 9))
    assert (found["mean"], found["between_seeds"]) == (0.5, pytest.approx(math.sqrt(1 / 18)))
    assert found["item_error"] == pytest.approx(math.sqrt(1 / 2 / 6))
    assert found["seed_error"] == pytest.approx(0)
    assert found["standard_error"] == pytest.approx(math.sqrt((1 / 6 + 1 / 2 - 1 / 6) / 6))
    same = spread(np.array([[1.0, 0.0], [1.0, 0.0]]), (0, 1))
    assert (same["between_seeds"], same["seed_error"], same["mean"]) == (0, 0, 0.5)
    assert (same["ci_low"], same["ci_high"]) == (0, 1)  # a score is no share below 0 or above 1


@pytest.mark.parametrize("between", [0.0, 0.03])
@pytest.mark.parametrize(("runs", "items"), [(4, 400), (2, 50)])
def test_coverage_of_a_mean_over_seeds(runs: int, items: int, between: float) -> None:
    """Seeds and items drawn anew each time; the interval of the items alone covers far less."""
    generator = np.random.default_rng(1)
    widest = t.ppf(0.975, runs - 1)
    found, alone = [], []
    for _ in range(SIMULATIONS):
        right = generator.uniform(0.2, 0.8, items) + between * generator.standard_normal((runs, 1))
        result = spread((generator.random((runs, items)) < right).astype(float), (-9, 9))
        assert result["ci_high"] - result["mean"] <= widest * result["standard_error"] * 1.0001
        found.append((result["ci_low"], result["ci_high"]))
        half = Z_95 * result["item_error"]
        alone.append((result["mean"] - half, result["mean"] + half))
    assert COVERAGE[0] <= covered(found, 0.5) <= 0.985
    if between and items == 400:  # the choice of fifty items matters more than that of the seed
        assert covered(alone, 0.5) < 0.85
