"""Golden values: the published results of an experiment, to compare a new run with."""

from pathlib import Path

import pandas as pd

from cpt.errors import UserError
from cpt.files import atomic
from cpt.verify_numbers import HELD_OUT, Check, Mismatch, read_table

COLUMNS = ["run", "task", "metric", "n", "score", "tolerance"]
ITEMS = 2  # whose answer may differ per task, because another processor sums in another order
BITS_TOLERANCE = 0.01  # relative, of bits per byte


def compare_golden(results: Path, golden: Path) -> Check:
    """Compare scores.csv with golden values. Raises UserError if the golden file lacks a column."""
    expected = read_table(golden)
    if missing := sorted(set(COLUMNS) - set(expected)):
        raise UserError(f"{golden}: expected the columns {', '.join(COLUMNS)}; add {', '.join(missing)}")
    scores = read_table(results / "scores.csv").set_index(["run", "task", "metric"])[["n", "score"]]
    mismatches = []
    for row in expected.to_dict("records"):
        key, wanted = (row["run"], row["task"], row["metric"]), f"{row['score']} ± {row['tolerance']}"
        where = f"scores.csv: {' '.join(key)}"
        if key not in scores.index:
            mismatches.append(Mismatch(where, "score", "no such row", wanted))
            continue
        cells = scores.loc[key]
        if cells["n"] != row["n"]:
            mismatches.append(Mismatch(where, "n", cells["n"], row["n"]))
        elif abs(float(cells["score"]) - float(row["score"])) > float(row["tolerance"]) + 1e-9:
            mismatches.append(Mismatch(where, "score", cells["score"], wanted))
    return Check(golden.name, len(expected), mismatches)


def write_golden(results: Path, golden: Path) -> None:
    """Write the golden values of a finished experiment: Table 1's scores, their average, bits per byte.

    The tolerance is two items for a score, one item of each task for the average, 1 % for bits per byte.
    """
    scores = read_table(results / "scores.csv")
    average, bits = scores["task"] == "average", scores["task"].str.startswith(HELD_OUT)
    rows = scores[(scores["shown"] == "true") | average | bits].copy()
    tasks = max(1, (scores["averaged"] == "true").groupby(scores["run"]).sum().max())
    n, score = rows["n"].astype(float), rows["score"].astype(float)
    tolerance = (ITEMS / n).where(~average, tasks / n).where(~bits, BITS_TOLERANCE * score)
    rows["tolerance"] = tolerance.map("{:.6f}".format)
    with atomic(golden) as temporary:
        pd.DataFrame(rows[COLUMNS]).to_csv(temporary, index=False, lineterminator="\n")
