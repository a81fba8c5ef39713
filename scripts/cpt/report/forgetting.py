"""Figure 3: what is learned of the domain and forgotten of the rest, along training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cpt.errors import UserError
from cpt.files import read_json
from cpt.report import style
from cpt.report.labels import count_label
from cpt.report.rows import read_rows

HOLLOW = {"marker": "o", "markerfacecolor": "white", "markersize": 4.5}  # of interpolated models


class Curve(NamedTuple):
    """Bits per byte of one corpus along a run.

    Attributes:
        tokens: int64 [measurements], training tokens before each; begins with 0.
        bits: float64 [measurements].
    """

    tokens: np.ndarray
    bits: np.ndarray


class Point(NamedTuple):
    """Changes in bits per byte of an interpolated model against the base model, and the run it leads to."""

    run: str
    domain: float
    general: float


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves of a run's held_out.csv, by corpus. Raises UserError for a file without measurements."""
    rows = read_rows(path, ("tokens", "corpus", "bits_per_byte"))
    curves = {}
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        mine = [row for row in rows if row["corpus"] == corpus]
        tokens = np.array([int(row["tokens"]) for row in mine])
        curves[corpus] = Curve(tokens, np.array([float(row["bits_per_byte"]) for row in mine]))
        if not np.isfinite(curves[corpus].bits).all():
            raise UserError(f"{path}: bits per byte of {corpus} aren't finite; train the run again")
    return curves


def read_points(bits: Sequence[Path], interpolated: dict[str, str], corpora: list[str]) -> list[Point]:
    """Changes of interpolated models against the base model.

    Args:
        bits: files with bits per byte of the base model, then of each interpolated model, for each corpus;
            none without interpolated models.
        interpolated: the run that each model leads to, by model.
        corpora: the domain and the general corpus.
    """
    if not interpolated:
        return []
    values = np.reshape([read_json(path)["bits_per_byte"] for path in bits], (-1, len(corpora)))
    changes = values[1:] - values[0]  # [models, corpora]
    return [Point(run, *change) for run, change in zip(interpolated.values(), changes, strict=True)]


def _look(index: int) -> dict[str, Any]:
    """A run's line, with its marker at the last point."""
    return {
        "marker": style.MARKERS[index % len(style.MARKERS)],
        "markevery": [-1],
        "markersize": 4.5,
        "color": style.RUN_COLOURS[index % len(style.RUN_COLOURS)],
        "linestyle": style.LINES[index % len(style.LINES)],
        "linewidth": 1.2,
    }


def _draw_over_tokens(axes: Axes, curves: dict[str, dict[str, Curve]], corpus: str) -> None:
    """Bits per byte of one corpus over the tokens of every run, on a logarithm from the first step on."""
    for index, (run, of_run) in enumerate(curves.items()):
        axes.plot(of_run[corpus].tokens, of_run[corpus].bits, label=run, **_look(index))
    all_tokens = np.concatenate([of_run[corpus].tokens for of_run in curves.values()])
    first, most = all_tokens[all_tokens > 0].min(), all_tokens.max()
    axes.set_xscale("symlog", linthresh=first, linscale=0.6)
    axes.set_xlim(0, most * (most / first) ** 0.06)
    powers = 10.0 ** np.arange(np.ceil(np.log10(first) + 0.2), np.log10(most) + 0.01)
    axes.set_xticks([0, first, *powers])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.set_ylabel(f"{corpus}\nbits per byte", linespacing=1.4)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _draw_paths(
    axes: Axes,
    curves: dict[str, dict[str, Curve]],
    origins: dict[str, str],
    corpora: list[str],
    points: list[Point],
) -> None:
    """Change of the general corpus over that of the domain, against the model that all began with."""
    colours = {}
    for index, (run, of_run) in enumerate(curves.items()):
        start = curves.get(origins[run], of_run)
        x, y = (of_run[corpus].bits - start[corpus].bits[0] for corpus in corpora)
        (line,) = axes.plot(x, y, **_look(index))
        colours[run] = line.get_color()
    for point in points:
        look = HOLLOW | {"color": colours.get(point.run, style.GREY)}
        axes.plot(point.domain, point.general, **look)
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.GREY, linewidth=0.7, zorder=1)
    axes.set_xlabel(f"{corpora[0]}\nchange in bits per byte", linespacing=1.4)
    axes.set_ylabel(f"{corpora[1]}\nchange in bits per byte", linespacing=1.4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def draw_forgetting(
    drawn: Figure,
    curves: dict[str, dict[str, Curve]],
    origins: dict[str, str],
    corpora: list[str],
    points: list[Point],
) -> None:
    """Figure 3: left bits per byte over tokens, right the general corpus over the domain.

    Args:
        drawn: empty figure.
        curves: of each run, by corpus.
        origins: for each run the one at the beginning of its chain, which began with the base model.
        corpora: the domain and, if there is one, the general corpus; without it only the left part is drawn.
        points: interpolated models.
    """
    if len(corpora) == 1:
        (left,) = panels = [drawn.subplots()]
        _draw_over_tokens(left, curves, corpora[0])
    else:
        domain, general = corpora
        mosaic = drawn.subplot_mosaic([[general, "paths"], [domain, "paths"]])
        panels = [mosaic[general], mosaic[domain]]
        for axes, corpus in zip(panels, (general, domain), strict=True):
            _draw_over_tokens(axes, curves, corpus)
        panels[0].tick_params(labelbottom=False)
        _draw_paths(mosaic["paths"], curves, origins, corpora, points)
    drawn.align_ylabels(panels)
    panels[-1].set_xlabel("Training tokens (logarithmic)")
    handles, labels = panels[0].get_legend_handles_labels()
    if points:
        handles.append(Line2D([], [], color=style.GREY, linestyle="none", **HOLLOW))
        labels.append("interpolated with the base model")
    style.legend(drawn, 3, handles=handles, labels=labels)
