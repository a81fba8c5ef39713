"""The paper's quantitative claims: recomputed from its own numbers, beside what was measured here."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cpt.errors import UserError
from cpt.report.evidence import Evidence, FromPaper, FromResults, Measured, Unknown, stand_ins
from cpt.report.rows import Row
from cpt.report.same_experiment import obstacle

COLUMNS = (
    *("claim", "kind", "where", "says", "unit", "stated", "stated_high", "recomputed"),
    *("measured", "ci_low", "ci_high", "n", "runs", "verdict", "note"),
)
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_TESTED, INCONSISTENT = "not tested here", "inconsistent in the source"
AGREEMENT = 5.0  # % of a value that a measurement without an interval may lie from it
KEYS = {"id", "kind", "where", "says", "for", "unit", "value", "tolerance", "agreement", "by", "hardware"}
KEYS |= {"note", "of_paper_alone"}


def score(from_: Evidence, run: str, task: str) -> Measured:
    """Score of a run on a task."""
    return from_.score(run, task)


def average(from_: Evidence, run: str) -> Measured:
    """Unweighted mean over the tasks."""
    return from_.average(run)


def average_difference(from_: Evidence, run: str, reference: str) -> Measured:
    """Average of a run less that of another."""
    return Measured(from_.average(run).value - from_.average(reference).value)


def change(from_: Evidence, run: str, tasks: list[str]) -> Measured:
    """Change in % of the mean score over tasks, against the base model."""
    return from_.change(run, tasks)


def risen(from_: Evidence, run: str, reference: str, tasks: list[str]) -> Measured:
    """How many of the tasks have a higher score than in another run."""
    return Measured(sum(from_.score(run, task).value > from_.score(reference, task).value for task in tasks))


def early_share(from_: Evidence, run: str, last: str) -> Measured:
    """Share in % of the last run's gain in the average that an earlier run has already."""
    whole = average_difference(from_, last, "base").value
    if whole <= 0:
        raise Unknown("the average doesn't rise")
    return Measured(100 * average_difference(from_, run, "base").value / whole)


def run_value(from_: Evidence, run: str, column: str) -> Measured:
    """A column of the table of runs."""
    return Measured(from_.run_value(run, column))


def difference(from_: Evidence, run: str, reference: str, column: str) -> Measured:
    """Of two runs in a column."""
    return Measured(from_.run_value(run, column) - from_.run_value(reference, column))


def ratio(from_: Evidence, run: str, reference: str, column: str) -> Measured:
    """Of two runs in a column."""
    return Measured(from_.run_value(run, column) / from_.run_value(reference, column))


def percent_of(from_: Evidence, run: str, reference: str, column: str) -> Measured:
    """The ratio in %."""
    return Measured(100 * ratio(from_, run, reference, column).value)


def increase(from_: Evidence, run: str, reference: str, column: str) -> Measured:
    """By how many % a run is over another in a column."""
    return Measured(percent_of(from_, run, reference, column).value - 100)


def decrease(from_: Evidence, run: str, reference: str, column: str) -> Measured:
    """By how many % a run is under another in a column."""
    return Measured(100 - percent_of(from_, run, reference, column).value)


def items_right(from_: Evidence, run: str, task: str) -> Measured:
    """The whole number of items nearest to a score."""
    return Measured(round(from_.score(run, task).value * from_.items(task)), n=from_.items(task))


def possible_counts(from_: Evidence, run: str, task: str) -> Measured:
    """How many whole numbers of items give the score when it is rounded to four decimals."""
    items, shown = from_.items(task), round(from_.score(run, task).value, 4)
    near = range(math.floor((shown - 1e-4) * items), math.ceil((shown + 1e-4) * items) + 1)
    return Measured(sum(round(count / items, 4) == shown for count in near), n=items)


def standard_errors(from_: Evidence, run: str, task: str) -> Measured:
    """A run's difference from the base model over the standard error of two independent scores."""
    now, before, n = from_.score(run, task).value, from_.score("base", task).value, from_.items(task)
    error = math.sqrt((now * (1 - now) + before * (1 - before)) / n)
    if not error:
        raise Unknown("all items are right, or all wrong")
    return Measured((now - before) / error, n=n)


def over_majority(from_: Evidence, run: str, task: str) -> Measured:
    """Score of a run less that of always giving the most frequent right choice."""
    return Measured(from_.score(run, task).value - from_.majority(task), n=from_.items(task))


FUNCTIONS: dict[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (
        *(score, average, average_difference, change, risen, early_share, run_value, difference, ratio),
        *(percent_of, increase, decrease, items_right, possible_counts, standard_errors, over_majority),
    )
}


def read_claims(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The paper's own numbers and its claims, those with `for` written out. Raises UserError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        paper, entries = content["paper"], content["claims"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the keys paper and claims ({error!r})") from None
    claims = []
    for entry in entries:
        where = f"{path}, claim {entry.get('id')!r}"
        unknown = sorted(set(entry) - KEYS)
        if unknown or not {"id", "where", "says", "unit"} <= set(entry):
            raise UserError(
                f"{where}: needs id, where, says and unit, and may have {', '.join(sorted(KEYS))}; "
                f"unknown: {', '.join(unknown) or 'none'}"
            )
        if "by" in entry and entry["by"].get("function") not in FUNCTIONS:
            raise UserError(
                f"{where}: by.function is {entry['by'].get('function')!r}; choose one of "
                f"{', '.join(FUNCTIONS)}"
            )
        loops = entry.pop("for", {})
        claims += [
            _filled(entry, dict(zip(loops, chosen, strict=True)))
            for chosen in itertools.product(*loops.values())
        ]
    names = [claim["id"] for claim in claims]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: the claim {repeated[0]!r} occurs twice; give each an id of its own")
    return paper, claims


def _filled(value: Any, chosen: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, choice in chosen.items():
            value = value.replace("{" + name + "}", choice)
        return value
    if isinstance(value, dict):
        return {key: _filled(inner, chosen) for key, inner in value.items()}
    return [_filled(inner, chosen) for inner in value] if isinstance(value, list) else value


def runs_of(claim: dict[str, Any]) -> list[str]:
    """The paper's runs that a claim is about; changes are against its base model."""
    by = claim.get("by", {})
    runs = [by[key] for key in ("run", "reference", "last") if key in by]
    against_base = by.get("function") in ("change", "early_share", "standard_errors")
    return list(dict.fromkeys([*runs, *(["base"] if against_base else [])]))


def _stated(
    claim: dict[str, Any], paper: dict[str, Any], published: dict[str, dict[str, float]]
) -> tuple[float, float] | None:
    """What a claim states, as a range (of no width, mostly); None for one in words only."""
    value, by = claim.get("value"), claim.get("by", {})
    if value == "published":
        value = published[by["run"]][by.get("task", "average")]
    elif value == "stated":
        value = paper["runs"][by["run"]][by["column"]]
    if value is None:
        return None
    low, high = value if isinstance(value, list) else (value, value)
    return float(low), float(high)


def _verdict(
    claim: dict[str, Any],
    stated: tuple[float, float] | None,
    recomputed: float | None,
    measured: Measured | None,
    obstacle: str,
) -> tuple[str, str]:
    """The verdict and a note. `obstacle` is what makes this another experiment than the paper's, or empty."""
    tolerance = claim.get("tolerance", 0.0) * (1 + 1e-9) + 1e-12
    if stated and recomputed is not None and not stated[0] - tolerance <= recomputed <= stated[1] + tolerance:
        return INCONSISTENT, "the paper's own numbers give another value"
    if measured is None or obstacle:
        return NOT_TESTED, obstacle
    if stated is None and recomputed is None:
        return NOT_TESTED, "no number to hold a measurement against"
    low, high = stated or (recomputed, recomputed)
    if measured.interval is None:
        room = max(tolerance, claim.get("agreement", AGREEMENT) / 100 * max(abs(low), abs(high)))
        near = low - room <= measured.value <= high + room
        return (REPRODUCED, "") if near else (NOT_REPRODUCED, "")
    covered = measured.interval[0] - tolerance <= high and low <= measured.interval[1] + tolerance
    if covered and claim["by"]["function"] == "change" and measured.interval[0] <= 0 <= measured.interval[1]:
        return NOT_REPRODUCED, "the interval covers the claim, but no change as well"
    return (REPRODUCED, "") if covered else (NOT_REPRODUCED, "")


def claim_rows(
    paper: dict[str, Any],
    claims: list[dict[str, Any]],
    published: dict[str, dict[str, float]],
    config: dict[str, Any],
    budgets: dict[str, int],
    scores: list[Row],
    runs: dict[str, Row],
) -> list[Row]:
    """The rows of claims.csv.

    Args:
        paper, claims: of claims.yaml.
        published: the paper's Table 1.
        config: the merged one of the results.
        budgets: training tokens of each run.
        scores, runs: rows of scores.csv and, by run, of runs.csv.
    """
    names, evaluate = stand_ins(config, budgets, paper), config["evaluate"]
    tasks = [task for task, settings in evaluate["tasks"].items() if settings.get("in_table", True)]
    from_paper = FromPaper(paper, published)
    from_results = FromResults(scores, runs, tasks, names, evaluate["seed"])
    rows = []
    for claim in claims:
        by = dict(claim.get("by", {}))
        function = FUNCTIONS.get(by.pop("function", ""))
        wanted = runs_of(claim)
        measured, missing = None, claim.get("note", "")
        recomputed = function(from_paper, **by).value if function else None
        if function and not claim.get("of_paper_alone"):
            try:
                measured = function(from_results, **by)
            except Unknown as error:
                missing = str(error)
        stated = _stated(claim, paper, published)
        hardware = claim.get("hardware", False)
        why = obstacle(config, paper, names, scores, runs, wanted, hardware) if measured else missing
        verdict, note = _verdict(claim, stated, recomputed, measured, why)
        interval = (measured.interval if measured else None) or (None, None)
        rows.append(
            {
                "claim": claim["id"],
                "kind": claim.get("kind", "stated"),
                **{key: claim[key] for key in ("where", "says", "unit")},
                "stated": stated[0] if stated else None,
                "stated_high": stated[1] if stated and stated[1] != stated[0] else None,
                "recomputed": recomputed,
                "measured": measured.value if measured else None,
                "ci_low": interval[0],
                "ci_high": interval[1],
                "n": measured.n if measured else None,
                "runs": " ".join(names[run] for run in wanted if run in names) if measured else "",
                "verdict": verdict,
                "note": note,
            }
        )
    return rows
