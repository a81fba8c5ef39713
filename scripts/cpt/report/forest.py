"""Figure 4: how far each run is from the base model on each task, and how far it would have to be."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.report import style
from cpt.report.rows import Row
from cpt.report.scores import AVERAGE
from cpt.report.statistics import SIGNIFICANT

ROW_HEIGHT, GAP = 0.15, 0.6  # inches for one run; between tasks, in rows
UNDETECTABLE = "#e3e3e3"


def base_comparisons(comparisons: list[Row]) -> dict[str, dict[str, Row]]:
    """The shown rows against the base model, by task and run, in the order of the file."""
    by_task: dict[str, dict[str, Row]] = {}
    for row in comparisons:
        if row["shown"] and row["family"] == "base":
            by_task.setdefault(row["task"], {})[row["run"]] = row
    return by_task


def height(rows: dict[str, dict[str, Row]]) -> float:
    """The figure's height in inches."""
    return 0.95 + ROW_HEIGHT * sum(len(runs) + GAP for runs in rows.values())


def draw_differences(drawn: Figure, rows: dict[str, dict[str, Row]], labels: dict[str, str]) -> None:
    """One line per task and run: difference in points with its 95 % interval, over what can't be detected.

    A filled marker is a difference whose p, adjusted after Holm, is under 0.05. `labels` are the names of the
    tasks.
    """
    axes = drawn.subplots()
    runs = list(next(iter(rows.values())))
    position, ticks, names = 0.0, [], []
    for task, of_task in rows.items():
        if task == AVERAGE:
            axes.axhline(position - (1 + GAP) / 2, color=style.GREY, linewidth=0.7)
        names.append("Average" if task == AVERAGE else labels[task])
        ticks.append(position + (len(of_task) - 1) / 2)
        for index, row in enumerate(of_task.values()):
            _draw_row(axes, position + index, index, row)
        position += len(of_task) + GAP
    axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    axes.set_ylim(position - (1 + GAP) / 2, -(1 + GAP) / 2)
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_signed))
    axes.set_xlabel("Difference from the base model (percentage points)")
    handles: list[Any] = [
        Line2D([], [], **_look(index), linewidth=1.2, label=run) for index, run in enumerate(runs)
    ]
    hollow = {**_look(0), "color": style.GREY, "markerfacecolor": "white", "linestyle": "none"}
    handles += [
        Line2D([], [], **hollow, label=f"hollow: p after Holm ≥ {SIGNIFICANT:g}"),
        Patch(facecolor=UNDETECTABLE, label="not detectable (80 % power)"),
    ]
    style.legend(drawn, 3, handles=handles)


def _look(index: int) -> dict[str, Any]:
    return {
        "marker": style.MARKERS[index % len(style.MARKERS)],
        "markersize": 4,
        "color": style.RUN_COLOURS[index % len(style.RUN_COLOURS)],
    }


def _draw_row(axes: Axes, position: float, index: int, row: Row) -> None:
    low, middle, high = (100 * row[name] for name in ("ci_low", "difference", "ci_high"))
    reach = 100 * (row["detectable_difference"] or 0)  # unknown where no item changed
    axes.barh(position, 2 * reach, 0.92, -reach, color=UNDETECTABLE, zorder=0)
    look = _look(index)
    axes.plot([low, high], [position] * 2, color=look["color"], linewidth=1.2, solid_capstyle="butt")
    face = look["color"] if row["p_holm"] < SIGNIFICANT else "white"
    axes.plot(middle, position, markerfacecolor=face, markeredgewidth=1, **look)


def _signed(value: float, _: int) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"
