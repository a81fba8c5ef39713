"""Figure 6: what each stage of the data pipeline leaves of a corpus, in documents and in tokens."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cpt.report import style
from cpt.report.data import APART, DROPPED, NOT_PACKED, Step
from cpt.report.labels import MINUS, count_label

ROW_HEIGHT = 0.16  # inches, for text of 8 pt
BAR = 0.76  # of a row
HATCH = "//////"
LEFT = "#cfe3f1"  # a pale style.BLUE
COLOURS = {DROPPED: style.ORANGE, APART: style.GREEN, NOT_PACKED: style.YELLOW}
ABOUT = "\N{ALMOST EQUAL TO}"


def height(corpora: dict[str, list[Step]]) -> float:
    """The figure's height in inches."""
    return 0.35 + ROW_HEIGHT * sum(len(steps) + 1.6 for steps in corpora.values())


def draw_waterfall(drawn: Figure, corpora: dict[str, list[Step]]) -> None:
    """Figure 6: one row of panels per corpus, documents left, tokens right, in % of what was read."""
    grid = drawn.subplots(
        len(corpora),
        4,
        squeeze=False,
        gridspec_kw={
            "width_ratios": [0.62, 1, 0.62, 1],
            "height_ratios": [len(steps) + 1 for steps in corpora.values()],
        },
    )
    for panels, (corpus, steps) in zip(grid, corpora.items(), strict=True):
        for axes in panels:
            axes.set_ylim(len(steps) - 0.4, -1.5)
            axes.set_xlim(0, 1)
            axes.set_axis_off()
        for unit, (bars, numbers) in zip(("documents", "tokens"), (panels[:2], panels[2:]), strict=True):
            _draw_unit(bars, numbers, steps, unit)
        _draw_labels(panels[0], corpus, steps)
    hatched = Patch(facecolor="white", edgecolor=style.GREY, hatch=HATCH, linewidth=0)
    drawn.legend(
        [*(Patch(facecolor=colour) for colour in (LEFT, *COLOURS.values())), hatched],
        ["left", *COLOURS, f"{ABOUT} estimated"],
        loc="outside lower center",
        ncols=5,
        columnspacing=1.2,
        handlelength=1.4,
    )


def _draw_labels(axes: Axes, corpus: str, steps: list[Step]) -> None:
    axes.text(-0.04, -1, corpus, ha="right", va="center", fontweight="bold")
    for position, step in enumerate(steps):
        weight = "normal" if step.taken else "bold"
        axes.text(-0.04, position, step.label, ha="right", va="center", fontsize=8, fontweight=weight)


def _draw_unit(bars: Axes, numbers: Axes, steps: list[Step], unit: str) -> None:
    whole = getattr(steps[0].left, unit) or 1
    numbers.text(0.5, -1, unit, ha="right", va="center")
    for position, step in enumerate(steps):
        left = getattr(step.left, unit)
        taken = getattr(step.taken, unit) if step.taken else 0
        if left is None or taken is None:
            continue
        bars.barh(position, left / whole, BAR, color=LEFT)
        if taken:
            # The edge keeps a drop visible that is thinner than a pixel.
            edge = {"edgecolor": COLOURS[step.how], "linewidth": 0.7}
            bars.barh(position, taken / whole, BAR, left / whole, color=COLOURS[step.how], **edge)
        shown = taken if step.taken else left
        number = f"{shown:,}" if unit == "documents" and shown < 10**7 else count_label(shown)
        if step.taken and shown:
            number = MINUS + number
        if unit == "tokens" and (step.taken or step.left).estimated:
            hatch = {"hatch": HATCH, "hatch_linewidth": 0.4, "edgecolor": "white", "linewidth": 0}
            bars.barh(position, (left + taken) / whole, BAR, facecolor="none", **hatch)
            number = ABOUT + number if shown else number
        look = {"ha": "right", "va": "center", "fontsize": 7.5}
        look["fontweight"] = "normal" if step.taken else "bold"
        numbers.text(0.5, position, number, **look)
        numbers.text(1, position, _percent(shown, whole), **look)


def _percent(value: int, whole: int) -> str:
    percent = 100 * value / whole
    if 0 < percent < 0.05:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= 99.95 else f"{percent:.1f} %"
