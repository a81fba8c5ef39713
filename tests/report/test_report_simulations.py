"""Tests and intervals on simulated data whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binom, kstest, t

from cpt.data_sets import BY_TASK
from cpt.report import resampling
from cpt.report.measures import Values, measures_of
from cpt.report.resampling import (
    difference_error,
    difference_interval,
    mean_difference_p,
    relative_change_interval,
)
from cpt.report.seeds import spread
from cpt.report.statistics import (
    Z_95,
    Z_POWER,
    Pairs,
    detectable_difference,
    detectable_mean_difference,
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
    """Few resamples are enough for thousands of simulations."""
    monkeypatch.setattr(resampling, "RESAMPLES", 400)
    monkeypatch.setattr(resampling, "FLIPS", 1000)


@pytest.mark.parametrize(("n", "changed"), [(50, 0.1), (1172, 0.2), (14042, 0.06)])
def test_mcnemar_keeps_its_level_under_the_null(n: int, changed: float) -> None:
    """P(p <= level) never exceeds the level, and comes close to it if enough items change."""
    tables = simulated(n, (0.3, changed / 2, changed / 2, 0.7 - changed))
    p_values = np.array([mcnemar_p(pairs.gained, pairs.lost) for pairs in tables])
    for level in (0.01, 0.05, 0.2, 0.5):
        noise = 3 * math.sqrt(level * (1 - level) / SIMULATIONS)
        assert (p_values <= level).mean() <= level + noise
    if n > 1000:
        assert (p_values <= 0.05).mean() > 0.03


def test_sign_flips_give_uniform_p_values_under_the_null(fewer_draws: None) -> None:
    """Differences of a mean over tasks of different sizes hardly tie, so p is uniform."""
    tasks = [
        simulated(n, (0.3, 0.06, 0.06, 0.58), seed) for seed, n in enumerate((1172, 2376, 1267, 3270, 1838))
    ]
    p_values = [mean_difference_p(sample, seed) for seed, sample in enumerate(zip(*tasks, strict=True))]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert (np.array(p_values) <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_sign_flips_of_one_task_are_mcnemars_test() -> None:
    for pairs in (Pairs(40, 30, 18, 60), Pairs(5, 3, 9, 83), Pairs(9, 0, 0, 1)):
        assert mean_difference_p([pairs], 0) == pytest.approx(mcnemar_p(pairs.gained, pairs.lost), abs=0.005)


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(("n", "shares"), [(300, (0.35, 0.07, 0.04, 0.54)), (1172, (0.2, 0.06, 0.05, 0.69))])
def test_coverage_of_a_difference(fewer_draws: None, n: int, shares: tuple[float, ...]) -> None:
    intervals = [difference_interval([[pairs]], seed) for seed, pairs in enumerate(simulated(n, shares))]
    assert COVERAGE[0] <= covered(intervals, shares[1] - shares[2]) <= COVERAGE[1]


def test_coverage_of_a_difference_with_strata(fewer_draws: None) -> None:
    """Subjects that differ in level and in change, with a hundred items each, as in MMLU."""
    subjects = [(0.2 + 0.1 * k, 0.02 + 0.02 * k, 0.05, 0.73 - 0.12 * k) for k in range(3)]
    tables = zip(*(simulated(100, shares, seed) for seed, shares in enumerate(subjects)), strict=True)
    truth = float(np.mean([gained - lost for _, gained, lost, _ in subjects]))
    intervals = [difference_interval([list(strata)], seed) for seed, strata in enumerate(tables)]
    assert COVERAGE[0] <= covered(intervals, truth) <= COVERAGE[1]


def test_a_mean_of_tasks_of_different_sizes(fewer_draws: None) -> None:
    """Every task has the same weight: difference, its error, coverage, and p if nothing changes."""
    sizes, gained, lost = (40, 100, 400), np.array([0.15, 0.08, 0.1]), np.array([0.05, 0.06, 0.12])
    tasks = np.repeat(range(3), sizes)
    summary = {"aggregations": {"acc": BY_TASK}, "higher_is_better": {}, "metrics": {"acc": None}}
    generator = np.random.default_rng(0)

    def drawn(gained: np.ndarray, lost: np.ndarray) -> tuple[Values, np.ndarray]:
        draw = generator.random(len(tasks))
        up, down = gained[tasks], lost[tasks]
        base = np.where(draw < up, 0, np.where(draw < up + down, 1, draw > 0.6))
        run = np.where(draw < up, 1, np.where(draw < up + down, 0, base))
        measured = [
            measures_of([{"task": t, "acc": int(v)} for t, v in zip(tasks, values, strict=True)], summary)
            for values in (run, base)
        ]
        ours, theirs = (measure["acc"] for measure in measured)
        return Values(ours.values, theirs.values, ours.weights, tasks, BY_TASK), run - base

    intervals, truth = [], float((gained - lost).mean())
    for seed in range(SIMULATIONS // 4):
        values, changes = drawn(gained, lost)
        task_changes = [changes[tasks == task] for task in range(3)]
        assert values.difference == pytest.approx(np.mean([each.mean() for each in task_changes]))
        intervals.append(difference_interval([values], seed))
    error = math.sqrt(sum(each.var(ddof=1) / len(each) for each in task_changes)) / 3
    assert difference_error(values, 0) == pytest.approx(error, rel=0.15)
    assert values.detectable_difference == pytest.approx((Z_95 + Z_POWER) * error, rel=0.15)
    assert 0.92 <= covered(intervals, truth) <= 0.98
    null_p_values = [mean_difference_p([drawn(lost, lost)[0]], seed) for seed in range(SIMULATIONS // 4)]
    assert np.mean(np.array(null_p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_coverage_of_the_mean_over_tasks_and_of_a_relative_change(fewer_draws: None) -> None:
    tasks = {1172: (0.2, 0.06, 0.05, 0.69), 2376: (0.3, 0.1, 0.06, 0.54)}
    tables = list(zip(*(simulated(n, shares, n) for n, shares in tasks.items()), strict=True))
    truth = float(np.mean([gained - lost for _, gained, lost, _ in tasks.values()]))
    intervals = [difference_interval([[pairs] for pairs in sample], s) for s, sample in enumerate(tables)]
    assert COVERAGE[0] <= covered(intervals, truth) <= COVERAGE[1]
    base_sum = sum(both + lost for both, _, lost, _ in tasks.values())
    change = 100 * len(tasks) * truth / base_sum
    intervals = [relative_change_interval(sample, seed) for seed, sample in enumerate(tables)]
    assert COVERAGE[0] <= covered(intervals, change) <= COVERAGE[1]


def test_few_items_never_have_an_interval_of_zero_width(fewer_draws: None) -> None:
    """On fifty items that hardly change, intervals are wide rather than wrong."""
    shares = (0.35, 0.03, 0.02, 0.6)
    intervals = [difference_interval([[pairs]], seed) for seed, pairs in enumerate(simulated(50, shares))]
    assert covered(intervals, 0.01) >= 0.95
    low, high = difference_interval([[Pairs(20, 0, 0, 30)]], 0)
    assert low < 0 < high


def test_subjects_with_few_items_are_pooled(fewer_draws: None) -> None:
    """Resampling inside strata of one item would always give the same sample."""
    single = [Pairs(1, 0, 0, 0), Pairs(0, 1, 0, 0), Pairs(0, 0, 1, 0), Pairs(0, 0, 0, 1)] * 10
    low, high = difference_interval([single], 0)
    assert high - low > 0.3


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_coverage_of_a_score(share: float) -> None:
    correct = np.random.default_rng(0).binomial(200, share, SIMULATIONS)
    assert COVERAGE[0] <= covered([wilson_interval(int(k), 200) for k in correct], share) <= COVERAGE[1]


def power(n: int, gained: float, lost: float) -> float:
    """Share of simulated experiments in which the exact test finds a difference at 5 %."""
    drawn = np.random.default_rng(0).multinomial(n, (gained, lost, 1 - gained - lost), 20_000)
    p_values = 2 * binom.cdf(drawn[:, :2].min(1), drawn[:, :2].sum(1), 0.5)
    return float((p_values <= 0.05).mean())


@pytest.mark.parametrize(
    ("n", "changed"), [(1172, 0.15), (2376, 0.2), (3270, 0.08), (14042, 0.05), (14042, 0.3)]
)
def test_detectable_difference_has_eighty_percent_power(n: int, changed: float) -> None:
    """The exact test is a little weaker than the normal approximation behind the formula."""
    reach = detectable_difference(changed, n)
    assert 0.76 <= power(n, (changed + reach) / 2, (changed - reach) / 2) <= 0.82
    assert power(n, (changed + reach / 2) / 2, (changed - reach / 2) / 2) < 0.4  # half of it is mostly missed
    assert n * reach**2 == pytest.approx(
        (Z_95 * math.sqrt(changed) + Z_POWER * math.sqrt(changed - reach**2)) ** 2
    )


def test_detectable_difference_where_hardly_any_item_changes() -> None:
    """Of fifty items, at least six must change: fewer can't be significant at all."""
    difference = detectable_difference(0.02, 50)
    assert difference == detectable_difference(0.0, 50) == pytest.approx(0.15, abs=0.01)
    assert power(50, difference, 0.0) >= 0.75
    assert detectable_difference(0.5, 1) == detectable_difference(0.0, 1) == 1.0
    few = detectable_difference(0.0, 4)  # here, iterating the equation would alternate
    assert few == pytest.approx((Z_95 + Z_POWER * math.sqrt(1 - few)) ** 2 / 4) and few < 1


def test_paired_standard_error_is_that_of_the_items_differences() -> None:
    pairs = Pairs(12, 7, 3, 18)
    differences = np.repeat([0, 1, -1, 0], pairs)
    assert paired_standard_error(pairs) == pytest.approx(differences.std(ddof=1) / math.sqrt(40))
    assert math.isnan(paired_standard_error(Pairs(1, 0, 0, 0)))


def sign_flip_power(tasks: list[tuple[float, int]], difference: float) -> float:
    """Share of 20,000 simulated experiments in which sign flips find a mean difference over tasks at 5 %.

    `tasks` are the share of items that differ and the number of items. The test's critical value for the
    numbers of items that differ is drawn once for each of 20 sets of these numbers.
    """
    generator = np.random.default_rng(0)
    powers = []
    for _ in range(20):
        changed = [generator.binomial(n, share) for share, n in tasks]
        sums, flipped = np.zeros(1000), np.zeros(20_000)
        for (share, n), count in zip(tasks, changed, strict=True):
            gained = generator.binomial(count, (1 + difference / share) / 2, 1000)
            sums += (2 * gained - count) / n
            flipped += (2 * generator.binomial(count, 0.5, 20_000) - count) / n
        p_values = 1 - np.searchsorted(np.sort(np.abs(flipped)), np.abs(sums) - 1e-12) / 20_000
        powers.append((p_values <= 0.05).mean())
    return float(np.mean(powers))


@pytest.mark.parametrize(
    "tasks",
    [
        [(0.0625, 50)] * 7,  # the demo: too few items for a task to find its own difference
        [(0.08, 50)] * 7,
        [(0.05, 14042), (0.15, 1172), (0.13, 2376), (0.2, 1267), (0.1, 10042), (0.12, 3270), (0.11, 1838)],
        [(0.1, 300), (0.3, 60), (0.1, 1000)],
    ],
)
def test_detectable_difference_of_the_mean_over_tasks_has_eighty_percent_power(
    tasks: list[tuple[float, int]],
) -> None:
    difference = detectable_mean_difference(tasks, counted=True)
    assert 0.77 <= sign_flip_power(tasks, difference) <= 0.83
    assert sign_flip_power(tasks, difference / 2) < 0.4


def test_detectable_difference_of_the_mean_by_hand() -> None:
    """Seven tasks of fifty items, of which 6.25 % differ, equal one task of 350 items.

    The detectable difference of one of them, divided by sqrt(7), is 0.0566: more than 99 % of experiments
    find it, so this formula was wrong.
    """
    tasks = [(0.0625, 50)] * 7
    difference = detectable_mean_difference(tasks, counted=True)
    assert difference == pytest.approx(detectable_difference(0.0625, 350)) == pytest.approx(0.0371, abs=5e-4)
    each = [detectable_difference(share, n) for share, n in tasks]
    assert math.hypot(*each) / 7 == pytest.approx(0.0566, abs=1e-4)
    assert sign_flip_power(tasks, 0.0566) > 0.99
    assert detectable_mean_difference([(0.1, 1172)], True) == detectable_difference(0.1, 1172)
    # If hardly an item differs, the test needs a minimum of changed items; other values have no minimum.
    assert detectable_mean_difference([(0.001, 50)] * 2, True) == detectable_difference(0.0, 100)
    small = detectable_mean_difference([(1e-4, 50)] * 2, counted=False)
    assert small == pytest.approx((Z_95 + Z_POWER) * 1e-2 / math.sqrt(100), rel=0.05)


def test_spread_by_hand() -> None:
    """Two runs, three items: means 2/3 and 1/3; MS_runs = 1/6, MS_items = 1/2, MS_rest = 1/6."""
    result = spread([np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])], (-9, 9))
    assert (result["mean"], result["between_seeds"]) == (0.5, pytest.approx(math.sqrt(1 / 18)))
    assert result["item_error"] == pytest.approx(math.sqrt(1 / 2 / 6))
    assert result["seed_error"] == pytest.approx(0)
    assert result["standard_error"] == pytest.approx(math.sqrt((1 / 6 + 1 / 2 - 1 / 6) / 6))
    half = math.sqrt(t.ppf(0.975, 1) ** 2 / 18 / 2 + t.ppf(0.975, 2) ** 2 * (1 / 2 - 1 / 6) / 6)
    assert [result["ci_low"], result["ci_high"]] == pytest.approx([0.5 - half, 0.5 + half])
    same = spread([np.array([[1.0, 0.0], [1.0, 0.0]])], (0, 1))
    assert (same["between_seeds"], same["seed_error"], same["mean"]) == (0, 0, 0.5)
    assert (same["ci_low"], same["ci_high"]) == (0, 1)  # a score is never below 0 or above 1


def test_spread_of_seeds_that_differ_by_hand() -> None:
    """Three runs whose scores are 0, 1/2 and 1 on every item: the items add no error."""
    result = spread([np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])], (-9, 9))
    assert (result["item_error"], result["seed_error"]) == (0, pytest.approx(0.5 / math.sqrt(3)))
    assert result["ci_high"] - 0.5 == pytest.approx(t.ppf(0.975, 2) * 0.5 / math.sqrt(3))


def test_spread_of_the_mean_over_tasks() -> None:
    """Items of tasks are independent, but a seed shifts all tasks equally, which doesn't average out."""
    generator = np.random.default_rng(0)
    task = generator.normal(0.5, 0.1, (3, 40)) + np.array([[-0.2], [0.0], [0.2]])
    other = generator.normal(0.5, 0.1, (3, 40)) + np.array([[-0.2], [0.0], [0.2]])
    alone, both = spread([task], (-9, 9)), spread([task, other], (-9, 9))
    assert both["mean"] == pytest.approx((alone["mean"] + spread([other], (-9, 9))["mean"]) / 2)
    assert both["item_error"] == pytest.approx(
        math.hypot(alone["item_error"], spread([other], (-9, 9))["item_error"]) / 2
    )
    assert both["seed_error"] == pytest.approx(0.2 / math.sqrt(3), rel=0.1)


def answers_of_seeds(
    generator: np.random.Generator, shifts: np.ndarray, items: int, alike: float
) -> np.ndarray:
    """Float64 [runs, items]: right (1) or wrong (0), with true scores of 0.45 and each run's shift, [runs,
    1]; the share `alike` of the answers depends on the item alone."""
    shape = (len(shifts), items)
    own = generator.random(shape) >= alike
    return (np.where(own, generator.random(shape), generator.random(items)) < 0.45 + shifts).astype(float)


@pytest.mark.parametrize("between", [0.0, 0.02, 0.03])
@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("runs", "items"), [(2, 1172), (2, 2376), (3, 1172), (2, 50)])
def test_coverage_of_a_mean_over_seeds(runs: int, items: int, alike: float, between: float) -> None:
    """Draws seeds and items in every simulation, at the sizes of ARC and of a subset."""
    generator = np.random.default_rng(1)
    intervals, item_intervals = [], []
    for _ in range(SIMULATIONS // 2):
        shifts = between * generator.standard_normal((runs, 1))
        result = spread([answers_of_seeds(generator, shifts, items, alike)], (-9, 9))
        intervals.append((result["ci_low"], result["ci_high"]))
        half = Z_95 * result["item_error"]
        item_intervals.append((result["mean"] - half, result["mean"] + half))
    assert covered(intervals, 0.45) >= 0.925  # 95 % less 3.6 standard errors of 1,000 simulations
    if between and items > 1000:  # the choice of fifty items matters more than that of the seed
        assert covered(item_intervals, 0.45) < 0.9


def test_coverage_of_differences_and_of_the_average_over_seeds() -> None:
    """Of a score minus the base model's, and of the mean over three tasks that a seed shifts equally."""
    generator = np.random.default_rng(2)
    differences, averages = [], []
    for _ in range(SIMULATIONS // 2):
        shifts = np.vstack([[-0.02], 0.02 * generator.standard_normal((3, 1))])  # of the base model, first
        tasks = [answers_of_seeds(generator, shifts, items, 0.9) for items in (1172, 1267, 300)]
        single = spread([tasks[0][1:] - tasks[0][0]], (-9, 9))
        differences.append((single["ci_low"], single["ci_high"]))
        mean = spread([values[1:] for values in tasks], (-9, 9))
        averages.append((mean["ci_low"], mean["ci_high"]))
    assert covered(differences, 0.02) >= 0.925
    assert covered(averages, 0.45) >= 0.925
