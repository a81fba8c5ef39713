"""Whether this experiment's runs replicate what the paper states, within a margin from the seeds' variance.

A repeat of a training run differs from it by the choice of the seed alone (the items are the same), so its
value is one more draw from the values of the seeds. With k seeds of mean m and standard deviation s, such a
draw lies within m +- t(0.975, k - 1) s sqrt(1 + 1/k) with a probability of 95 % (the prediction interval of
normal values; Hahn and Meeker 1991, chapter 4). Half its width is the margin: 5 % of true repeats fail,
whatever s is.
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

from cpt.report.scores import base_run

REPLICATED, NOT_REPLICATED, INCONCLUSIVE = "replicated", "not replicated", "inconclusive"
NOT_TESTABLE, OTHER, NO_CLAIM = "not testable", "another experiment", "no claim"
FEWEST_SEEDS = 3
CHANGING = {"change", "mean_change", "points", "average_difference"}  # their value is 0 if nothing changed


def margin_of(values: Sequence[float]) -> float:
    """Half the width of the 95 % prediction interval of one more value; needs at least two `values`."""
    from scipy.stats import t  # here, since it takes a second to load

    k = len(values)
    return float(t.ppf(0.975, k - 1)) * stdev(values) * math.sqrt(1 + 1 / k)


def seed_names(config: dict[str, Any], names: dict[str, str], wanted: Sequence[str]) -> list[dict[str, str]]:
    """Returns `names` once for each seed, with a repeat of each run in `wanted` (by the paper's names).

    There are as many as the run with the fewest repeats has; only `names` itself if none of them is trained.
    """
    runs = config["runs"]
    repeats = {
        name: [run, *(other for other in runs if (runs[other] or {}).get("replicate_of") == run)]
        for name, run in names.items()
        if name in wanted and name != "base"
    }
    seeds = zip(*repeats.values(), strict=False)
    return [{**names, **dict(zip(repeats, seed_runs, strict=True))} for seed_runs in seeds] or [names]


def replication(
    values: Sequence[float],
    trained: bool,
    holds: Callable[[float], bool],
    stated: tuple[float, float] | None,
    changing: bool,
) -> tuple[str, str, float | None]:
    """Verdict, note and margin of a claim.

    Args:
        values: measured with each seed.
        trained: whether a trained run is among those measured; without one, no seed can change the value.
        holds: whether a value agrees with the claim.
        stated: the values that round to the claim's number; None for "more than" and "less than".
        changing: whether 0 would mean that nothing happened.
    """
    centre = mean(values)
    if not trained:
        return (REPLICATED if holds(centre) else NOT_REPLICATED), "no seed changes it", 0.0
    if len(values) < FEWEST_SEEDS:
        why = "no seeds" if len(values) == 1 else f"{len(values)} seeds of {FEWEST_SEEDS}"
        return NOT_TESTABLE, why, None
    margin = margin_of(values)
    low, high = centre - margin, centre + margin
    if stated is None:
        inside = holds(low) + holds(high)  # the claim is a half-line, so the ends decide
        return (NOT_REPLICATED, INCONCLUSIVE, REPLICATED)[inside], "", margin
    if stated[1] < low or high < stated[0]:
        return NOT_REPLICATED, "", margin
    if changing and low <= 0 <= high:
        return INCONCLUSIVE, "no change is within the margin as well", margin
    return REPLICATED, "", margin


def stand_ins(config: dict[str, Any], budgets: dict[str, int], paper: dict[str, Any]) -> dict[str, str]:
    """The run of this experiment that corresponds to each of the paper's runs, by the paper's name.

    It has the same budget and was trained from the base model, with the paper's name if one has it. Without
    such a run, the smallest and the largest budget stand for the paper's two, so that their numbers can be
    shown (but never compared with the paper's).
    """
    runs = config["runs"]
    trained = [run for run, tokens in budgets.items() if tokens and not runs[run].get("merge")]
    trained = [run for run in trained if not runs[run].get("replicate_of")]
    names = {}
    paper_budgets = {name: run["tokens"] for name, run in paper["runs"].items() if run["tokens"]}
    ends = sorted(trained, key=budgets.__getitem__)
    for position, (name, tokens) in enumerate(sorted(paper_budgets.items(), key=lambda item: item[1])):
        same = [run for run in trained if budgets[run] == tokens and not runs[run].get("start_from")]
        if same:
            names[name] = name if name in same else same[0]
        elif len({budgets[run] for run in trained}) > 1:
            names[name] = ends[0] if position == 0 else ends[-1]
    return {**names, "base": base_run(budgets)}
