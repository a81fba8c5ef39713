"""The paper's quantitative claims: recomputed from its own numbers, beside what was measured here."""

import itertools
from pathlib import Path
from typing import Any

import yaml

from cpt.errors import UserError
from cpt.report.evidence import FromPaper, FromResults, Measured, Unknown
from cpt.report.rows import Row

COLUMNS = (
    *("claim", "kind", "where", "says", "unit", "stated", "stated_high", "recomputed"),
    *("measured", "ci_low", "ci_high", "n", "runs", "verdict", "note"),
)
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_TESTED, INCONSISTENT = "not tested here", "inconsistent in the source"
AGREEMENT = 5.0  # % of a value that a measurement without an interval may lie from it
KEYS = {"id", "kind", "where", "says", "for", "unit", "value", "tolerance", "agreement", "by", "hardware"}
KEYS |= {"note", "of_paper_alone"}


FUNCTIONS = (  # methods of Evidence
    *("score", "average", "average_difference", "change", "risen", "early_share", "run_value", "difference"),
    *("ratio", "percent_of", "increase", "decrease", "items_right", "possible_counts", "standard_errors"),
    "over_majority",
)


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
    """The verdict and a note. `obstacle`: why nothing is held against the claim, or empty."""
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
    from_paper = FromPaper(paper, published)
    from_results = FromResults(config, budgets, paper, scores, runs)
    names, rows = from_results.names, []
    for claim in claims:
        by = dict(claim.get("by", {}))
        function = by.pop("function", "")
        wanted = runs_of(claim)
        measured, why = None, claim.get("note", "")
        recomputed = getattr(from_paper, function)(**by).value if function else None
        if function and not claim.get("of_paper_alone"):
            try:
                measured = getattr(from_results, function)(**by)
                why = from_results.obstacle(wanted, claim.get("hardware", False))
            except Unknown as error:
                why = str(error)
        stated = _stated(claim, paper, published)
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
