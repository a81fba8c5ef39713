"""Figure 5: which letters a model answers on MMLU, and what answering one letter always would score."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cpt.errors import UserError
from cpt.report import style
from cpt.report.rows import read_rows
from cpt.report.statistics import wilson_interval

COLUMNS = ("run", "task", "letter", "items", "gold", "answered", "right")
ROW_HEIGHT = 0.19  # inches
GOLD = "black"


class Letters(NamedTuple):
    """Answers of all runs to one task.

    Attributes:
        letters: the choices.
        items: how many.
        gold: int64 [letters], how often each is right.
        answered: by run, int64 [letters], how often it answers each.
        right: by run, how many items it answers right.
    """

    letters: list[str]
    items: int
    gold: np.ndarray
    answered: dict[str, np.ndarray]
    right: dict[str, int]


def read_letters(path: Path, task: str) -> Letters:
    """One task of letters.csv. Raises UserError if it isn't there or the runs have other right letters."""
    by_run: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path, COLUMNS):
        if row["task"] == task:
            by_run.setdefault(row["run"], []).append(row)
    golds = {
        tuple((row["letter"], row["items"], int(row["gold"])) for row in rows) for rows in by_run.values()
    }
    if len(golds) != 1:
        raise UserError(
            f"{path}: expected {task} with the same items in every run, but found {len(golds)} kinds; delete "
            "the file and make it again"
        )
    (gold,) = golds
    return Letters(
        [letter for letter, _, _ in gold],
        int(gold[0][1]),
        np.array([count for _, _, count in gold]),
        {run: np.array([int(row["answered"]) for row in rows]) for run, rows in by_run.items()},
        {run: sum(int(row["right"]) for row in rows) for run, rows in by_run.items()},
    )


def height(letters: Letters) -> float:
    """The figure's height in inches."""
    return max(2.5, 0.9 + ROW_HEIGHT * (len(letters.answered) + len(letters.letters)))


def draw_letters(drawn: Figure, letters: Letters) -> None:
    """Left: share of each letter among the answers of each run and among the right ones; right: scores."""
    left, right = drawn.subplots(1, 2, width_ratios=[1.25, 1])
    runs = list(letters.answered)
    colours = dict(zip(runs, [style.GREY, *style.RUN_COLOURS * len(runs)], strict=False))
    _draw_shares(left, letters, colours)
    _draw_scores(right, letters, colours)
    handles, names = left.get_legend_handles_labels()
    style.legend(drawn, 4, handles=handles, labels=names)


def _draw_shares(axes: Axes, letters: Letters, colours: dict[str, str]) -> None:
    at, width = np.arange(len(letters.letters)), 0.8 / len(letters.answered)
    for index, (run, answered) in enumerate(letters.answered.items()):
        shift = (index - (len(letters.answered) - 1) / 2) * width
        axes.bar(at + shift, 100 * answered / letters.items, 0.9 * width, color=colours[run], label=run)
    shares = 100 * letters.gold / letters.items
    axes.hlines(shares, at - 0.46, at + 0.46, color=GOLD, linewidth=1.5, label="right answers")
    axes.set_xticks(at, letters.letters)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Letter answered")
    axes.set_ylabel("Share of the answers (%)")


def _draw_scores(axes: Axes, letters: Letters, colours: dict[str, str]) -> None:
    rows: list[tuple[str, int, dict[str, Any]]] = [
        (run, count, {"color": colours[run], "marker": "o"}) for run, count in letters.right.items()
    ]
    rows += [
        (f"always {letter}", int(count), {"color": GOLD, "marker": "D", "markerfacecolor": "white"})
        for letter, count in zip(letters.letters, letters.gold, strict=True)
    ]
    for position, (_, count, look) in enumerate(rows):
        axes.plot(count / letters.items, position, markersize=4.5, linestyle="none", **look)
        if position < len(letters.right):
            interval = wilson_interval(count, letters.items)
            axes.plot(interval, [position] * 2, color=look["color"], linewidth=1.2)
    chance = 1 / len(letters.letters)
    axes.axvline(chance, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    axes.annotate(
        "chance",
        (chance, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color=style.GREY,
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"Score (n = {letters.items:,}, 95 % CI)")
