"""The domain's own exam in four kinds of rows: chance, base model, base model with the document, runs."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cpt.errors import UserError
from cpt.report import style
from cpt.report.rows import Row, read_typed
from cpt.report.scores import base_run, shown_rows
from cpt.report.statistics import SIGNIFICANT

COLUMNS = (
    "row", "run", "tokens", "n", "documents", "metric", "score", "ci_low", "ci_high", "difference",
    "difference_ci_low", "difference_ci_high", "p", "p_holm", "detectable_difference",
)  # fmt: skip
CHANCE, WITH_DOCUMENT, BASE, TRAINED = "chance", "base with the document", "base", "trained"
NAMES = {CHANCE: "Chance", BASE: "Base model", WITH_DOCUMENT: "Base model with\nthe document in context"}


def exam_rows(report: dict[str, Any], scores: list[Row], task: str, runs: dict[str, int]) -> list[Row]:
    """All rows of exam.csv.

    Args:
        report: exam/exam.json.
        scores: rows of scores.csv.
        task: the column of the exam.
        runs: training tokens of each run.

    Raises:
        UserError: the column shows another metric than the exam's report has.
    """
    shown, base = shown_rows(scores), base_run(runs)
    first = shown.get((base, task)) or next(
        row for row in scores if row["run"] == base and row["task"] == task
    )
    metric = first["metric"]
    open_book_scores = report["base"]["with_document"]
    if metric not in open_book_scores:
        raise UserError(
            f"evaluate.tasks.{task}.metric: {metric} isn't known of the base model with the document; choose "
            f"one of {', '.join(open_book_scores)}"
        )
    documents = {"documents": report["documents"], "metric": metric}
    open_book = open_book_scores[metric]
    rows: list[Row] = [
        {"row": CHANCE, "run": "", "n": first["n"], **documents, "score": first["chance"]},
        {"row": BASE, "run": base, "tokens": 0, **documents, **_score_cells(first)},
        {
            **{"row": WITH_DOCUMENT, "run": base, "tokens": 0, "n": report["n"], **documents},
            **{"score": open_book["score"], "ci_low": open_book["low"], "ci_high": open_book["high"]},
        },
    ]
    for run in (run for run, tokens in runs.items() if tokens):
        (score,) = [row for row in scores if (row["run"], row["task"], row["metric"]) == (run, task, metric)]
        change = {name: score[name] for name in COLUMNS[9:12]} | {"p": score["mcnemar_p"]}
        change |= {"p_holm": score["mcnemar_p_holm"], "detectable_difference": score["detectable_difference"]}
        trained = {"row": TRAINED, "run": run, "tokens": runs[run]}
        rows.append({**trained, **documents, **_score_cells(score), **change})
    return rows


def _score_cells(row: Row) -> Row:
    return {name: row[name] for name in ("n", "score", "ci_low", "ci_high")}


def read_exam(path: Path) -> list[Row]:
    """Read exam.csv: numbers as int and float, empty cells as None."""
    return read_typed(path, COLUMNS, {"row", "run", "metric"})


def height_of(rows: list[Row]) -> float:
    """The height of the figure in inches."""
    return 0.75 + 0.27 * len(rows)


def draw_exam(drawn: Figure, rows: list[Row]) -> None:
    """Plot each row's score with its 95 % interval.

    A run's marker is filled if its score differs from the base model's (p after Holm below 0.05), else empty.

    Args:
        drawn: empty figure.
        rows: of exam.csv.
    """
    axes = drawn.subplots()
    trained = [row["run"] for row in rows if row["row"] == TRAINED]
    for position, row in enumerate(rows):
        if row["row"] == CHANCE:
            axes.axvline(row["score"], color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        is_run = row["row"] == TRAINED
        look = style.look(trained.index(row["run"]), "color", "marker") if is_run else {"color": style.GREY}
        filled = not is_run or (row["p_holm"] is not None and row["p_holm"] < SIGNIFICANT)
        face = look["color"] if filled else "white"
        look = {"marker": "o", "markersize": 4.5, "linestyle": "none"} | look
        axes.plot(row["score"], position, markerfacecolor=face, **look)
        if row["ci_low"] is not None:
            axes.plot(
                [row["ci_low"], row["ci_high"]], [position] * 2, color=look["color"], linewidth=1.2, zorder=1
            )
    axes.set_yticks(range(len(rows)), [NAMES.get(row["row"], row["run"]) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    items = rows[1]
    axes.set_xlabel(
        f"Score ({items['metric']}, n = {items['n']:,} on {items['documents']:,} documents, 95 % CI)"
    )
