"""A grid of runs that differ in learning rate and data order alone: does the result hold in all of them?"""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cpt.errors import UserError
from cpt.report import style
from cpt.report.rows import Row
from cpt.report.scores import AVERAGE, BITS_PER_BYTE

APART = 1.09  # factor on the learning rate between the markers of two orders, so that intervals don't overlap


class Panel(NamedTuple):
    """One quantity: its title, its number of items in words, and its change and 95 % interval by run."""

    title: str
    items: str
    changes: dict[str, tuple[float, float, float]]  # change, low, high; NaN where there is no interval

    def clear(self) -> str:
        """How many intervals lie on one side of zero, such as `below 0: 9 of 9`."""
        below = sum(high < 0 for _, _, high in self.changes.values())
        above = sum(low > 0 for _, low, _ in self.changes.values())
        sides = [f"{side} 0: {count}" for side, count in (("below", below), ("above", above)) if count]
        return f"{', '.join(sides) or 'beyond 0: none'} of {len(self.changes)}"

    def spreads(self, grid: dict[str, tuple[float, int]]) -> tuple[float, float]:
        """Standard deviation of the mean change between learning rates, and between orders."""
        deviations = []
        for axis in (0, 1):
            values: dict[float, list[float]] = {}
            for run, (change, _, _) in self.changes.items():
                values.setdefault(grid[run][axis], []).append(change)
            deviations.append(float(np.std([np.mean(each) for each in values.values()], ddof=1)))
        return deviations[0], deviations[1]


def panels_of(scores: list[Row], grid: dict[str, tuple[float, int]], corpora: list[str]) -> list[Panel]:
    """The panels of the figure: changes of bits per byte in %, and of the average score in points.

    Raises UserError if a run of the grid has no row.
    """
    quantities = [
        *((f"{BITS_PER_BYTE}.{corpus}", "relative_change", "relative", 1.0) for corpus in corpora),
        (AVERAGE, "difference", "difference", 100.0),
    ]
    panels = []
    for task, column, interval, factor in quantities:
        rows = {row["run"]: row for row in scores if row["task"] == task}
        if not rows:  # no task of Table 1 has a score between 0 and 1
            continue
        if missing := sorted(set(grid) - set(rows)):
            raise UserError(
                f"scores.csv: no row of {task} for {missing[0]}; delete the file and make it again"
            )
        ends = (f"{interval}_ci_low", f"{interval}_ci_high")
        changes = {}
        for run in grid:
            cells = [rows[run][name] for name in (column, *ends)]
            changes[run] = tuple(math.nan if cell is None else factor * cell for cell in cells)
        first = rows[next(iter(grid))]
        if task == AVERAGE:
            panels.append(Panel("average score:\nchange in points", f"{first['n']:,} items", changes))
        else:
            about = f"{task.partition('.')[2]}:\nbits per byte, change in %"
            items = f"{first['n']:,} documents, {first['groups']:,} groups"
            panels.append(Panel(about, items, changes))
    return panels


def draw_grid(drawn: Figure, panels: list[Panel], grid: dict[str, tuple[float, int]], note: str) -> None:
    """Draw a panel per quantity: change by learning rate, a marker for each order, the mean as a line."""
    rates, orders = (sorted({point[axis] for point in grid.values()}) for axis in (0, 1))
    for number, (panel, axes) in enumerate(
        zip(panels, np.atleast_1d(drawn.subplots(1, len(panels))), strict=True)
    ):
        for index, order in enumerate(orders):
            runs = [run for run in sorted(grid, key=lambda run: grid[run][0]) if grid[run][1] == order]
            values = np.array([panel.changes[run] for run in runs])  # [rates, 3]
            axes.errorbar(
                [grid[run][0] * APART ** (index - (len(orders) - 1) / 2) for run in runs],
                values[:, 0],
                np.abs(values[:, 1:] - values[:, :1]).T,
                linestyle="none",
                markersize=4,
                elinewidth=1,
                label=f"order {order}" if not number else None,
                **style.look(index, "color", "marker"),
            )
        means = [np.mean([panel.changes[run][0] for run in grid if grid[run][0] == rate]) for rate in rates]
        axes.plot(rates, means, color=style.GREY, linewidth=1, label=None if number else "mean over orders")
        axes.axhline(0, color="black", linewidth=0.7)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(rates, [_power(rate) for rate in rates])
        axes.set_title(f"{panel.title}\n{panel.items}")
        deviations = panel.spreads(grid)
        axes.set_xlabel(
            f"{panel.clear()}\nsd: rates {deviations[0]:.2g}, orders {deviations[1]:.2g}", color=style.GREY
        )
    drawn.supxlabel(f"peak learning rate; 95 % intervals, and how many lie beyond 0\n{note}", fontsize=8)
    style.legend(drawn, len(orders) + 1)


def _power(rate: float) -> str:
    """A learning rate as digits and power of ten, such as 3e-5."""
    digits, power = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(power)}"
