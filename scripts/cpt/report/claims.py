"""The ledger of the paper's claims: its own arithmetic in one column, their replication here in the other."""

import itertools
import re
from collections.abc import Callable
from operator import ge, gt, le, lt
from pathlib import Path
from typing import Any

import yaml

from cpt.errors import UserError
from cpt.report.evidence import FromPaper, FromResults, Measured, Unknown
from cpt.report.labels import MINUS
from cpt.report.replication import (
    CHANGING,
    NO_CLAIM,
    NOT_TESTABLE,
    OTHER,
    replication,
    seed_names,
    stand_ins,
)
from cpt.report.rows import Row

COLUMNS = (
    "claim", "kind", "where", "quote", "says", "unit", "stated", "stated_high", "condition", "recomputed",
    "source", "source_note", "assumes", "measured", "ci_low", "ci_high", "n", "runs", "seeds", "margin",
    "replication", "replication_note",
)  # fmt: skip
CONSISTENT, INCONSISTENT, UNCHECKED = "consistent", "inconsistent", "cannot be checked"
STATED, SETTING, INFERRED = KINDS = ("stated", "setting", "inferred")
FUNCTIONS = (  # methods of Evidence
    "score", "average", "average_difference", "change", "mean_change", "points", "rises", "mean_rises",
    "clear_rises", "gains_over_losses", "early_share", "items_gained", "items_right", "standard_errors",
    "over_majority", "fitting_groups", "scaling", "run_value", "difference", "ratio", "percent_of",
    "increase", "decrease",
)  # fmt: skip
NEEDED = {"id", "where", "says", "unit"}
KEYS = NEEDED | {"kind", "quote", "for", "value", "tolerance", "condition", "reading", "readings", "by"}
KEYS |= {"assumes", "cannot", "hardware", "of_paper_alone"}
READING_KEYS = {"as", "by", "unit", "value", "tolerance", "condition", "fact"}
CONDITION = re.compile(r"(>=|<=|>|<|=) (-?\d+(?:\.\d+)?)")
COMPARE: dict[str, Callable[[float, float], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}


def read_claims(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the paper's own numbers and its claims, with each `for` expanded. Raises UserError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        paper, entries = content["paper"], content["claims"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the keys paper and claims ({error!r})") from None
    claims = []
    for entry in entries:
        _check(entry, f"{path}, claim {entry.get('id')!r}")
        loops = entry.pop("for", {})
        claims += [
            _filled(entry, dict(zip(loops, values, strict=True)))
            for values in itertools.product(*loops.values())
        ]
    names = [claim["id"] for claim in claims]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: the claim {repeated[0]!r} occurs twice; give each an id of its own")
    return paper, claims


def _check(entry: dict[str, Any], where: str) -> None:
    if entry.keys() - KEYS or NEEDED - entry.keys():
        raise UserError(
            f"{where}: needs id, where, says and unit, and may have {', '.join(sorted(KEYS))}; "
            f"unknown: {', '.join(sorted(entry.keys() - KEYS)) or 'none'}"
        )
    if entry.get("kind", STATED) not in KINDS:
        raise UserError(f"{where}: kind is {entry['kind']!r}; choose one of {', '.join(KINDS)}")
    for reading in entry.get("readings", []):
        if reading.keys() - READING_KEYS or not {"as", "by"} <= reading.keys():
            raise UserError(
                f"{where}: each of readings needs as and by, and may have {', '.join(sorted(READING_KEYS))}"
            )
    for part in (entry, *entry.get("readings", [])):
        if "by" in part and part["by"].get("function") not in FUNCTIONS:
            raise UserError(
                f"{where}: by.function is {part['by'].get('function')!r}; choose one of "
                f"{', '.join(FUNCTIONS)}"
            )
        if "condition" in part and not CONDITION.fullmatch(part["condition"]):
            raise UserError(
                f"{where}: condition is {part['condition']!r}; write one of {' '.join(COMPARE)} =, a space "
                "and a number, such as '> 0'"
            )


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
    call = claim.get("by", {})
    runs = [call[key] for key in ("run", "reference", "last") if key in call] + call.get("runs", [])
    comparisons = {"change", "mean_change", "points", "clear_rises", "gains_over_losses", "early_share"}
    if call.get("function") in {*comparisons, "standard_errors"}:
        runs.append("base")
    return list(dict.fromkeys(runs))


def _stated_range(
    claim: dict[str, Any], paper: dict[str, Any], published: dict[str, dict[str, float]]
) -> tuple[float, float] | None:
    """The range of values that a claim states, mostly of width 0; None for a claim in words only."""
    value, call = claim.get("value"), claim.get("by", {})
    if value == "published":
        value = published[call["run"]][call.get("task", "average")]
    elif value == "stated":
        value = paper["runs"][call["run"]][call["column"]]
    if value is None:
        return None
    low, high = value if isinstance(value, list) else (value, value)
    return float(low), float(high)


def _span(claim: dict[str, Any], stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range of values that round to a claim's number; None for a claim without a number."""
    room = claim.get("tolerance", 0.0) * (1 + 1e-9) + 1e-12
    if stated is None and claim.get("condition", "").startswith("= "):
        stated = (float(claim["condition"][2:]),) * 2
    return (stated[0] - room, stated[1] + room) if stated else None


def _holds(claim: dict[str, Any], stated: tuple[float, float] | None) -> Callable[[float], bool] | None:
    """A check whether a value agrees with a claim's number or condition; None if it has neither."""
    if span := _span(claim, stated):
        return lambda value: span[0] <= value <= span[1]
    if "condition" not in claim:
        return None
    sign, number = CONDITION.fullmatch(claim["condition"]).groups()
    return lambda value: COMPARE[sign](value, float(number))


def amount(value: float, unit: str) -> str:
    """A value with its unit, as a sentence shows it."""
    value = round(value, 9)  # 93.75, not 93.74999
    if unit == "% change":
        text = f"{value:+.2f} %"
    elif unit == "points":
        text = f"{value:+.2f} points"
    elif unit == "%":
        text = f"{value:.1f} %"
    elif unit == "score":
        text = f"{value:.4f}"
    else:
        unit = unit.removesuffix("s") if abs(value) == 1 else unit
        text = f"{value:,.0f} {unit}" if value == round(value) else f"{value:.3g} {unit}"
    return text.replace("-", MINUS)


def _source(
    claim: dict[str, Any], stated: tuple[float, float] | None, paper_numbers: FromPaper
) -> tuple[float | None, str, str]:
    """The first column: recomputed value, verdict, and what each reading gives.

    A claim is consistent if one reading of it follows from the paper's own numbers.
    """
    if "by" not in claim:
        return None, UNCHECKED, claim.get("cannot", "")
    if claim["by"]["function"] == "score":
        items = paper_numbers.items(claim["by"]["task"])
        if 1 / items < 2 * claim["tolerance"]:
            claim = claim | {"cannot": f"any score of four decimals is a share of {items:,} items"}
    value, notes, agree = None, [claim["cannot"]] if "cannot" in claim else [], []
    first = {"as": claim.get("reading", ""), **claim, "fact": "cannot" in claim}
    for reading in (first, *({**claim, **part} for part in claim.get("readings", []))):
        arguments = dict(reading["by"])
        number = getattr(paper_numbers, arguments.pop("function"))(**arguments).value
        value = number if reading is first else value
        holds = None if reading.get("fact") else _holds(reading, stated)
        verdict = "" if holds is None else CONSISTENT if holds(number) else INCONSISTENT
        agree += [verdict] if verdict else []
        if reading["as"]:
            shown = f"{reading['as']}: {amount(number, reading['unit'])}"
            notes.append(shown + (f" ({verdict})" if verdict else ""))
    if claim.get("kind") == INFERRED:
        return value, "", "; ".join(notes)
    verdict = UNCHECKED if "cannot" in claim else CONSISTENT if CONSISTENT in agree else INCONSISTENT
    return (None if claim.get("value") == "stated" else value), verdict, "; ".join(notes)


def _measure(claim: dict[str, Any], seed_results: list[FromResults]) -> list[Measured]:
    arguments = dict(claim["by"])
    function = arguments.pop("function")
    return [getattr(results, function)(**arguments) for results in seed_results]


def _replication(
    claim: dict[str, Any], stated: tuple[float, float] | None, seed_results: list[FromResults]
) -> Row:
    """The second column, from the results with each seed."""
    runs, names = runs_of(claim), seed_results[0].names
    row: Row = {"replication": NO_CLAIM, "replication_note": claim.get("kind", STATED)}
    if claim.get("of_paper_alone") or "by" not in claim:
        alone = "about the paper's numbers alone" if "by" in claim else claim["cannot"]
        return {**row, "replication": NO_CLAIM if "by" in claim else NOT_TESTABLE, "replication_note": alone}
    try:
        measured = _measure(claim, seed_results)
    except Unknown as error:
        return row if claim.get("kind") else row | {"replication": OTHER, "replication_note": str(error)}
    values = [each.value for each in measured]
    interval = measured[0].interval if len(measured) == 1 else None
    row |= dict(zip(("ci_low", "ci_high"), interval or (None, None), strict=True))
    row |= {"measured": sum(values) / len(values), "n": measured[0].n, "seeds": len(values)}
    row["runs"] = " ".join(results.names[run] for results in seed_results for run in runs if run in names)
    if claim.get("kind"):
        return row
    obstacles = [results.obstacle(runs, claim.get("hardware", False)) for results in seed_results]
    if obstacle := next(filter(None, obstacles), ""):
        return row | {"replication": OTHER, "replication_note": obstacle}
    if (holds := _holds(claim, stated)) is None:
        return row | {"replication": NOT_TESTABLE, "replication_note": "no number to hold it against"}
    trained, changing = runs != ["base"], claim["by"]["function"] in CHANGING
    verdict, note, margin = replication(values, trained, holds, _span(claim, stated), changing)
    return row | {"replication": verdict, "replication_note": note, "margin": margin}


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
        config: the merged config of the results.
        budgets: training tokens of each run.
        scores, runs: rows of scores.csv and, by run, of runs.csv.
    """
    paper_numbers = FromPaper(paper, published)
    names, rows = stand_ins(config, budgets, paper), []
    for claim in claims:
        stated = _stated_range(claim, paper, published)
        recomputed, source, note = _source(claim, stated, paper_numbers)
        seeds = seed_names(config, names, runs_of(claim))
        seed_results = [FromResults(config, paper, scores, runs, run_names) for run_names in seeds]
        rows.append(
            {
                **{"claim": claim["id"], "kind": claim.get("kind", STATED)},
                **{key: claim.get(key) for key in ("where", "quote", "says", "unit", "condition", "assumes")},
                "stated": stated[0] if stated else None,
                "stated_high": stated[1] if stated and stated[1] != stated[0] else None,
                **{"recomputed": recomputed, "source": source, "source_note": note},
                **dict.fromkeys(("measured", "ci_low", "ci_high", "n", "runs", "seeds", "margin")),
                **_replication(claim, stated, seed_results),
            }
        )
    return rows
