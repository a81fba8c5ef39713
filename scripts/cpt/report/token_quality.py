"""How the token-level quality measures are spread over the documents of each corpus."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cpt.report import style
from cpt.report.rows import read_rows

COLUMNS = ("corpus", "measure", "from", "to", "documents")
SCRIPT_BOUNDS = "minimum_bytes_per_token"  # rows with a script's bound and name instead of a bin


class Panel(NamedTuple):
    """A measure, its axis label, its thresholds, and the place of zero on a log axis."""

    measure: str
    label: str
    thresholds: tuple[float, ...]
    zero: float | None = None  # None: a linear axis


def _panels(thresholds: dict[str, float]) -> list[Panel]:
    compression = (thresholds["minimum_bytes_per_token"], thresholds["maximum_bytes_per_token"])
    return [
        Panel("bytes_per_token", "Bytes per token", compression),
        Panel("unknown_share", "Share of unknown tokens", (thresholds["maximum_unknown_share"],), 1e-6),
        Panel("distinct_share", "Share of distinct tokens", (thresholds["minimum_distinct_share"],)),
        Panel("longest_run", "Longest run of one token", (thresholds["maximum_run_tokens"],), 0.5),
    ]


def read_bins(path: Path) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Read for each measure and corpus the edges (float64 [bins + 1]) and documents (int64 [bins]).

    A gap between two bins becomes one bin without documents. Raises UserError if the file has no rows or
    lacks a column.
    """
    measures: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    for row in read_rows(path, COLUMNS):
        if row["measure"] == SCRIPT_BOUNDS:
            continue
        lower = float(row["from"])
        upper = float(row["to"]) if row["to"] else 1.05 * lower  # the last bin has no end
        bins = measures.setdefault(row["measure"], {}).setdefault(row["corpus"], [])
        if bins and bins[-1][1] != lower:
            bins.append((bins[-1][1], lower, 0))
        bins.append((lower, upper, int(row["documents"])))
    return {
        measure: {
            corpus: (
                np.array([bins[0][0], *(upper for _, upper, _ in bins)]),
                np.array([count for *_, count in bins]),
            )
            for corpus, bins in corpora.items()
        }
        for measure, corpora in measures.items()
    }


def read_script_bounds(path: Path) -> dict[str, float]:
    """Read the minimum bytes per token for documents in other scripts than Latin, by script."""
    rows = (row for row in read_rows(path, COLUMNS) if row["measure"] == SCRIPT_BOUNDS)
    return {row["to"]: float(row["from"]) for row in rows}


def draw_quality(
    drawn: Figure,
    bins: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]],
    thresholds: dict[str, float],
    script_bounds: dict[str, float],
) -> None:
    """One panel per measure: share of the documents in each bin, an outline per corpus, thresholds dashed.

    The bounds of other scripts than Latin are dotted and have the script's name.
    """
    for axes, panel in zip(drawn.subplots(2, 2).flat, _panels(thresholds), strict=True):
        _draw_panel(axes, panel, bins[panel.measure])
    for script, bound in script_bounds.items():
        drawn.axes[0].axvline(bound, color="black", linestyle=":", linewidth=0.8)
        place = {"xycoords": ("data", "axes fraction"), "va": "top", "ha": "right"}
        drawn.axes[0].annotate(script, (bound, 1), rotation=90, fontsize=5, **place)
    handles, names = drawn.axes[1].get_legend_handles_labels()
    style.legend(drawn, 4, handles=handles, labels=names)
    drawn.supylabel("Documents per bin (%)", fontsize=8.5)


def _draw_panel(axes: Axes, panel: Panel, corpora: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    smallest = min(100 / counts.sum() for _, counts in corpora.values())
    for index, (corpus, (edges, counts)) in enumerate(corpora.items()):
        edges = edges if panel.zero is None else np.maximum(edges, panel.zero)
        axes.stairs(
            100 * counts / counts.sum(),
            edges,
            baseline=smallest / 2,
            linewidth=1,
            label=corpus,
            **style.look(index, "color", "linestyle"),
        )
    for threshold in panel.thresholds:
        axes.axvline(threshold, color="black", linestyle=(0, (6, 3)), linewidth=0.8, label="threshold")
    axes.set_yscale("log")
    axes.set_ylim(smallest / 2, 130)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(panel.label)
    highest = max(*panel.thresholds, *(edges[-1] for edges, _ in corpora.values()))
    if panel.zero is None:
        axes.set_xlim(0, 1.04 * highest)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        return
    axes.set_xscale("log")
    ticks = [tick for tick in LogLocator().tick_values(panel.zero, highest) if tick > 1.5 * panel.zero]
    axes.set_xticks([panel.zero, *ticks], ["0", *map(_power_label, ticks)])
    axes.set_xlim(panel.zero, 1.5 * highest)
    axes.xaxis.set_minor_locator(NullLocator())


def _power_label(power: float) -> str:
    return f"{power:g}" if power > 0.0005 else f"$10^{{{round(np.log10(power))}}}$"
