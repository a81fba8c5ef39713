"""scores.csv and the paper's own scores: columns, writing, reading.

Without numpy, since most stages only read scores; cpt.report.scoring computes them.
"""

from pathlib import Path

from cpt.errors import UserError
from cpt.report.rows import Row, read_rows, read_typed, write_rows
from cpt.report.statistics import Pairs

COLUMNS = (
    "run", "tokens", "task", "metric", "n", "items_of_full", "score", "standard_error", "ci_low", "ci_high",
    "shown", "base_score", "difference", "difference_ci_low", "difference_ci_high", "gained", "lost",
    "mcnemar_p", "mcnemar_p_holm", "detectable_difference", "chance", "majority", "longest", "null",
    "null_score", "null_test", "null_p", "above_null", "published", "test", "higher_is_better", "averaged",
    "shots", "cut_items",
    "groups", "relative_change", "relative_ci_low", "relative_ci_high",  # of held-out text
)  # fmt: skip
ALWAYS = "always_"  # and a letter: the columns with scores of always answering it
FEWEST_LETTERS = "ABCDE"  # always have columns in scores.csv: no item of the seven benchmarks has more
AVERAGE = "average"  # task and metric of the row with the unweighted mean over Table 1's tasks
BITS_PER_BYTE = "bits_per_byte"
LOWER = "\N{DOWNWARDS ARROW}"  # after the name of a metric for which lower is better
MCNEMAR, SIGN_FLIPS = "mcnemar", "sign_flips"  # tests of a difference
PUBLISHED_MODEL = "facebook/MobileLLM-125M"


def base_run(runs: dict[str, int]) -> str:
    """The name of the run without training tokens. Raises UserError if there is none."""
    for run, tokens in runs.items():
        if not tokens:
            return run
    raise UserError("runs: every comparison is against the base model; add a run without tokens: `base: {}`")


def read_published(path: Path) -> dict[str, dict[str, float]]:
    """The paper's Table 1: run -> {tokens, task: score, ..., average}."""
    return {
        row["run"]: {key: float(value) for key, value in row.items() if key != "run"}
        for row in read_rows(path, ("run", "tokens", "average"))
    }


def write_scores(path: Path, rows: list[Row]) -> None:
    """Write scores.csv, with a column for each letter that some item has as a choice."""
    letters = dict.fromkeys(ALWAYS + letter for letter in FEWEST_LETTERS)
    letters |= {name: None for row in rows for name in row if name.startswith(ALWAYS)}
    before = COLUMNS.index("longest")
    write_rows(path, (*COLUMNS[:before], *letters, *COLUMNS[before:]), rows)


def read_scores(path: Path) -> list[Row]:
    """Read the COLUMNS of scores.csv: numbers as int and float, `shown`, `above_null`, `higher_is_better` and
    `averaged` as bool, empty cells as None."""
    return read_typed(path, COLUMNS, {"run", "task", "metric", "null", "null_test", "test"})


def shown_rows(scores: list[Row]) -> dict[tuple[str, str], Row]:
    """The rows that Table 1 shows, by (run, task)."""
    return {(row["run"], row["task"]): row for row in scores if row["shown"]}


def averages(scores: list[Row]) -> dict[str, Row]:
    """The row of each run's average, by run."""
    return {row["run"]: row for row in scores if row["task"] == AVERAGE}


def pairs_of(row: Row) -> Pairs:
    """The 2 x 2 table behind a row of scores.csv whose items are right or wrong (`gained` is known)."""
    both = round(row["score"] * row["n"]) - row["gained"]
    return Pairs(both, row["gained"], row["lost"], row["n"] - both - row["gained"] - row["lost"])
