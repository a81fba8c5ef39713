"""Figure of answers.csv: changes of right answers, of wrong ones, and of right less wrong, side by side."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cpt.report import style
from cpt.report.labels import MINUS
from cpt.report.likelihoods import MARGIN, RIGHT, WRONG
from cpt.report.rows import Row
from cpt.report.scores import AVERAGE
from cpt.report.statistics import SIGNIFICANT

PANELS = {RIGHT: "Right answer", WRONG: "Wrong answers", MARGIN: "Right less wrong"}
ROW_HEIGHT, GAP = 0.15, 0.6  # inches for one run; between tasks, in rows
UNDETECTABLE = "#e3e3e3"


def height_of(rows: list[Row]) -> float:
    """The height of the figure in inches."""
    tasks, runs = ({row[name] for row in rows} for name in ("task", "run"))
    return 1.3 + ROW_HEIGHT * len(tasks) * (len(runs) + GAP)


def draw_likelihoods(drawn: Figure, rows: list[Row], labels: dict[str, str]) -> None:
    """Plot each task's and run's change in nats with its 95 % interval, over what can't be detected.

    The three panels have one scale, so that gains of right and wrong answers can be compared. A filled marker
    is a change whose p, adjusted after Holm, is under 0.05.

    Args:
        drawn: empty figure.
        rows: of answers.csv.
        labels: the name of each task.
    """
    if not rows:
        drawn.text(0.5, 0.5, "no trained run, or no task with choices", ha="center", va="center")
        return
    tasks = sorted(dict.fromkeys(row["task"] for row in rows), key=AVERAGE.__eq__)  # the mean comes last
    runs = list(dict.fromkeys(row["run"] for row in rows))
    step = len(runs) + GAP
    for axes, quantity in zip(drawn.subplots(1, 3, sharex=True, sharey=True), PANELS, strict=True):
        for row in (row for row in rows if row["quantity"] == quantity):
            index = runs.index(row["run"])
            _draw_row(axes, tasks.index(row["task"]) * step + index, index, row)
        axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
        axes.axhline(len(tasks[:-1]) * step - (1 + GAP) / 2, color=style.GREY, linewidth=0.7)
        axes.set_title(PANELS[quantity])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0")
    names = ["Mean" if task == AVERAGE else labels[task] for task in tasks]
    axes.set_yticks([number * step + (len(runs) - 1) / 2 for number in range(len(tasks))], names)
    axes.set_ylim(len(tasks) * step - (1 + GAP) / 2, -(1 + GAP) / 2)
    drawn.supxlabel("Change of the mean log-probability against the base model (nats)", fontsize=8.5)
    handles: list[Line2D | Patch] = [
        Line2D([], [], markersize=4, linewidth=1.2, label=run, **style.look(index, "color", "marker"))
        for index, run in enumerate(runs)
    ]
    hollow = {"color": style.GREY, "marker": style.MARKERS[0], "markersize": 4, "linestyle": "none"}
    label = f"hollow: p after Holm ≥ {SIGNIFICANT:g}"
    handles.append(Line2D([], [], markerfacecolor="white", label=label, **hollow))
    handles.append(Patch(facecolor=UNDETECTABLE, label="not detectable (80 % power)"))
    style.legend(drawn, 3, handles=handles)


def _draw_row(axes: Axes, position: float, index: int, row: Row) -> None:
    look = style.look(index, "color", "marker")
    if row["p_holm"] is not None:  # None: a single item
        reach = row["detectable_difference"]
        axes.barh(position, 2 * reach, 0.92, -reach, color=UNDETECTABLE, zorder=0)
        ends = [row["ci_low"], row["ci_high"]]
        axes.plot(ends, [position] * 2, color=look["color"], linewidth=1.2, solid_capstyle="butt")
    significant = row["p_holm"] is not None and row["p_holm"] < SIGNIFICANT
    face = look["color"] if significant else "white"
    axes.plot(row["difference"], position, markersize=4, markerfacecolor=face, markeredgewidth=1, **look)
