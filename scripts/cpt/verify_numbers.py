"""Published numbers computed a second time from the samples, in short code independent of cpt.report.

A table is checked row by row. Random numbers (bootstrap, sign flips) are drawn again with another seed, and
may differ by the error of both draws.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats

from cpt.errors import UserError

ROUNDING = 2e-6  # tables have six decimals
P_ROUNDING = 2e-5  # relative: p values have six significant digits
DRAWS = 20_000
DRAWN_ERROR = 0.15  # in standard errors: six times the error of a percentile of 10,000 draws
HELD_OUT = "bits_per_byte."  # then the corpus: rows of scores.csv that aren't tasks
Row = dict[str, Any]


class Near(NamedTuple):
    """A value with a tolerance."""

    value: float
    tolerance: float


class Mismatch(NamedTuple):
    """A published number that differs from what the samples give."""

    where: str  # file and row
    column: str
    published: str
    recomputed: str


class Check(NamedTuple):
    """The check of a table: how many numbers were compared, and which differ."""

    table: str
    numbers: int
    mismatches: list[Mismatch]


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with all cells as text; an empty cell is ""."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def compare(table: Path, keys: list[str], rows: Iterable[Row]) -> Check:
    """Compare a table with recomputed rows, which have its keys and any of its columns.

    A row that only one of the two has is a mismatch. None matches an empty cell.
    """
    published = {tuple(row[key] for key in keys): row for row in read_table(table).to_dict("records")}
    numbers, mismatches = 0, []
    for row in rows:
        key = tuple(str(row.pop(name)) for name in keys)
        where, cells = f"{table.name}: {' '.join(key)}", published.pop(key, None)
        if cells is None:
            mismatches.append(Mismatch(where, "", "no such row", "a row"))
            continue
        for column, value in row.items():
            numbers += 1
            if not agrees(column, cells[column], value):
                shown = value.value if isinstance(value, Near) else value
                mismatches.append(Mismatch(where, column, cells[column], str(shown)))
    mismatches += [
        Mismatch(f"{table.name}: {' '.join(key)}", "", "a row", "no such row") for key in published
    ]
    return Check(table.name, numbers, mismatches)


def agrees(column: str, cell: str, value: Any) -> bool:
    """Whether a cell equals a value within its rounding or tolerance."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return cell == ""
    if isinstance(value, bool | np.bool_):
        return cell == str(bool(value)).lower()
    if isinstance(value, str):
        return cell == value
    try:
        published = float(cell)
    except ValueError:
        return False
    tolerance = ROUNDING
    if isinstance(value, Near):
        value, tolerance = value.value, value.tolerance + ROUNDING
    elif "p" in column.split("_"):
        tolerance = P_ROUNDING * abs(value)
    return abs(published - value) <= tolerance


def require(*files: Path) -> None:
    """Raise UserError, which names the file, if one of these is missing."""
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: missing, so its scores can't be recomputed; evaluate again")


def read_task(results: Path, run: str, task: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read {task}.json and the samples of a run, indexed by leaf task and item.

    Raises UserError if a file is missing or an item occurs twice.
    """
    folder = results / "evaluations" / run
    require(folder / f"{task}.json", folder / f"{task}.samples.jsonl")
    summary = json.loads((folder / f"{task}.json").read_text(encoding="utf-8"))
    with open(folder / f"{task}.samples.jsonl", encoding="utf-8") as file:
        samples = pd.DataFrame(map(json.loads, file)).set_index(["task", "item"]).sort_index()
    if samples.index.has_duplicates:
        raise UserError(f"{folder / task}.samples.jsonl: an item occurs twice; evaluate again")
    return summary, samples


def binary(samples: pd.DataFrame, metric: str) -> bool:
    """Whether every item is right or wrong."""
    return bool(samples[metric].isin([0, 1]).all())


def wilson(share: float, n: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval, from its closed form."""
    z2 = stats.norm.ppf(0.975) ** 2
    middle, half = share + z2 / (2 * n), math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)


def mcnemar(gained: int, lost: int) -> float:
    """Returns the exact two-sided p: twice the smaller tail of a fair coin."""
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def detectable(square: float, n: float, counted: bool = True) -> float:
    """Returns the root d of d = (z_0.975 sqrt(q) + z_0.8 sqrt(q - d^2)) / sqrt(n) (Connor 1987). `square` is
    q, the mean square of the items' changes. If `counted`, q = d where d would exceed q. For a mean over
    tasks, n may be fractional."""
    z, power = stats.norm.ppf([0.975, 0.8])

    def excess(d: float) -> float:
        q = max(square, d) if counted else square
        return d - (z * math.sqrt(q) + power * math.sqrt(max(0.0, q - d * d))) / math.sqrt(n)

    # With counts, q grows with d. If no item differs, d = 0 is a meaningless root.
    return float(optimize.brentq(excess, 1e-9, 1)) if excess(1.0) > 0 else 1.0


def holm(p_values: pd.Series) -> pd.Series:
    """Returns Holm's adjusted p values with the same index."""
    ordered = p_values.sort_values(kind="stable")
    factors = np.arange(len(ordered), 0, -1)
    return (ordered * factors).clip(upper=1).cummax().reindex(p_values.index)


def drawn_differences(changes: pd.Series, generator: np.random.Generator) -> np.ndarray:
    """Returns mean changes, float64 [20,000], of items drawn again within their leaf tasks (all as one if one
    has fewer than 30), smoothed by half an item in each of four outcomes. `changes` are -1, 0 or 1."""
    sizes = changes.groupby(level=0).size()
    strata = changes.groupby(level=0) if sizes.min() >= 30 else [("", changes)]
    counts = [np.array([(each == 1).sum(), (each == -1).sum(), (each == 0).sum()]) for _, each in strata]
    total = np.zeros(DRAWS)
    for count in counts:
        # Two of the four outcomes don't change an item's result: together they get a whole item.
        likely = count + np.array([0.5, 0.5, 1.0]) / len(counts)
        drawn = generator.multinomial(count.sum(), likely / likely.sum(), DRAWS)
        total += drawn[:, 0] - drawn[:, 1]
    return total / len(changes)


def interval(drawn: np.ndarray, step: float, tails: tuple[float, float] = (2.5, 97.5)) -> tuple[Near, Near]:
    """Returns the ends of a percentile interval, with the draws' error; `step` is one item's change."""
    slack = DRAWN_ERROR * float(drawn.std()) + step
    low, high = np.percentile(drawn, tails)
    return Near(float(low), slack), Near(float(high), slack)


def pair_of(base: pd.DataFrame, run: pd.DataFrame, metric: str, generator: np.random.Generator) -> Row:
    """Returns the columns of comparisons.csv for two runs on items that are right or wrong, and `drawn`.

    Raises UserError if the items aren't the same.
    """
    if not base.index.equals(run.index):
        raise UserError(f"{metric}: two runs weren't scored on the same items; evaluate both again")
    changes = run[metric] - base[metric]
    n, gained, lost = len(changes), int((changes == 1).sum()), int((changes == -1).sum())
    drawn = drawn_differences(changes, generator)
    low, high = interval(drawn, 1 / n)
    return {
        "n": n,
        "reference_score": float(base[metric].mean()),
        "score": float(run[metric].mean()),
        "difference": float(changes.mean()),
        "standard_error": float(changes.sem()),
        "ci_low": low,
        "ci_high": high,
        "gained": gained,
        "lost": lost,
        "discordant": (gained + lost) / n,
        "test": "mcnemar",
        "p": mcnemar(gained, lost),
        "detectable_difference": detectable((gained + lost) / n, n),
        "drawn": drawn,
    }


def average_of(pairs: list[Row], seed: int = 1) -> Row:
    """Returns the same columns for the unweighted mean over tasks whose items are right or wrong."""
    k, generator = len(pairs), np.random.default_rng(seed)
    step = 1 / k / min(pair["n"] for pair in pairs)
    low, high = interval(np.mean([pair["drawn"] for pair in pairs], 0), step)
    total = {name: sum(pair[name] for pair in pairs) for name in ("n", "gained", "lost")}
    flips = np.zeros(100_000)
    for pair in pairs:
        changed = pair["gained"] + pair["lost"]
        flips += (2 * generator.binomial(changed, 0.5, len(flips)) - changed) / pair["n"] / k
    difference = float(np.mean([pair["difference"] for pair in pairs]))
    p = float((np.abs(flips) >= abs(difference) - 1e-12).mean())
    inverse = sum(1 / pair["n"] for pair in pairs)
    return {
        **total,
        **{name: float(np.mean([pair[name] for pair in pairs])) for name in ("reference_score", "score")},
        "difference": difference,
        "standard_error": math.sqrt(sum(pair["standard_error"] ** 2 for pair in pairs)) / k,
        "ci_low": low,
        "ci_high": high,
        "discordant": (total["gained"] + total["lost"]) / total["n"],
        "test": "sign_flips",
        "p": Near(p, 8 * math.sqrt(p * (1 - p) / len(flips)) + 1e-4),
        "detectable_difference": detectable(
            sum(pair["discordant"] / pair["n"] for pair in pairs) / inverse, k * k / inverse
        ),
    }


def held_out(results: Path, base: str, run: str, corpus: str, seed: int = 1) -> Row:
    """Returns a run's bits per byte on held-out text and their change from the base model.

    They come from the documents' losses. Groups of documents are drawn again; percentiles are widened for few
    groups (Hesterberg 2014).
    """
    name = f"bits_per_byte.{corpus}.documents.csv"
    files = [results / "evaluations" / model / name for model in (base, run)]
    require(*files)
    both = [pd.read_csv(path) for path in files]
    sums = [each.groupby("group")[["nats", "bytes"]].sum() for each in both]
    if not (both[0][["group", "bytes"]].equals(both[1][["group", "bytes"]])):
        raise UserError(
            f"{run}: {corpus} was measured on other documents than for {base}; measure both again"
        )
    groups = len(sums[0])
    before, after = (each["nats"].sum() / math.log(2) / each["bytes"].sum() for each in sums)
    row: Row = {"n": len(both[1]), "groups": groups, "score": after, "base_score": before}
    row |= {"difference": after - before, "relative_change": 100 * (after / before - 1)}
    if groups < 2:
        return row
    picked = np.random.default_rng(seed).integers(groups, size=(DRAWS, groups))
    old, new = ((each["nats"].to_numpy()[picked].sum(1)) / math.log(2) for each in sums)
    size = sums[0]["bytes"].to_numpy()[picked].sum(1)
    below = 100 * stats.norm.cdf(-math.sqrt(groups / (groups - 1)) * stats.t.ppf(0.975, groups - 1))
    tails = (below, 100 - below)
    row["standard_error"] = Near(float((new / size).std()), 0.05 * float((new / size).std()))
    row["ci_low"], row["ci_high"] = interval(new / size, 0.0, tails)
    if run != base:
        row["difference_ci_low"], row["difference_ci_high"] = interval((new - old) / size, 0.0, tails)
        row["relative_ci_low"], row["relative_ci_high"] = interval(100 * (new / old - 1), 0.0, tails)
    return row


def nulls(samples: pd.DataFrame) -> Row:
    """Returns the scores that need no reading of the question: the columns chance, majority, always_A ... and
    longest."""
    number = samples["loglikelihoods"].map(len)
    names = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    always = {
        f"always_{names[k] if k < 26 else k + 1}": float((samples["gold"] == k).mean())
        for k in range(number.max())
    }
    row: Row = {"chance": float((1 / number).mean()), "majority": max(always.values()), **always}
    longest = samples["choice_characters"].map(lambda sizes: sizes.index(max(sizes)))
    differ = samples["choice_characters"].map(lambda sizes: len(set(sizes)) > 1).any()
    return row | {"longest": float((longest == samples["gold"]).mean()) if differ else None}


def against_null(samples: pd.DataFrame, metric: str) -> Row:
    """Returns the strongest null and the exact test of a run against it: columns null, null_score, ..."""
    null_scores, right = nulls(samples), samples[metric] == 1
    chance, _ = null_scores.pop("chance"), null_scores.pop("majority")
    best = max(
        (name for name in null_scores if null_scores[name] is not None), key=lambda name: null_scores[name]
    )
    if null_scores[best] < chance:
        best, score, test = "chance", chance, "binomial"
        p = float(stats.binomtest(int(right.sum()), len(right), chance).pvalue)
    else:
        null_choice = samples["choice_characters"].map(lambda sizes: sizes.index(max(sizes)))
        if best != "longest":
            null_choice = list(null_scores).index(best)
        null, score, test = samples["gold"] == null_choice, null_scores[best], "mcnemar"
        p = mcnemar(int((right & ~null).sum()), int((null & ~right).sum()))
    above = bool(right.mean() > score and p < 0.05)
    return {"null": best, "null_score": score, "null_test": test, "null_p": p, "above_null": above}


def evaluated(scores: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yields run and task of all rows of scores.csv that were scored item by item, in its order."""
    rows = scores[(scores["task"] != "average") & ~scores["task"].str.startswith(HELD_OUT)]
    yield from dict.fromkeys(zip(rows["run"], rows["task"], strict=True))
