"""Figure 3: what is learned of the domain and forgotten of the rest, along training."""

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


def read_points(
    evaluations: Path, base: str, interpolated: list[dict[str, str]], corpora: list[str]
) -> list[Point]:
    """Interpolated models' changes against the base model, from the bits_per_byte.{corpus}.json of both.

    `interpolated` are objects with the `name` of a model and the `run` that it leads to, `corpora` the domain
    and the general corpus.
    """

    def bits(run: str) -> np.ndarray:
        paths = [evaluations / run / f"bits_per_byte.{corpus}.json" for corpus in corpora]
        return np.array([read_json(path)["bits_per_byte"] for path in paths])

    return [Point(model["run"], *(bits(model["name"]) - bits(base))) for model in interpolated]


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


def _draw_over_tokens(
    axes: Axes, curves: list[dict[str, Curve]], runs: list[dict[str, str]], corpus: str
) -> None:
    """Bits per byte of one corpus over the tokens of every run, on a logarithm from the first step on."""
    for index, (run, found) in enumerate(zip(runs, curves, strict=True)):
        curve = found[corpus]
        axes.plot(curve.tokens, curve.bits, label=run["name"], **_look(index))
    all_tokens = np.concatenate([found[corpus].tokens for found in curves])
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
    curves: list[dict[str, Curve]],
    runs: list[dict[str, str]],
    corpora: list[str],
    points: list[Point],
) -> None:
    """Change of the general corpus over that of the domain, against the model that all began with."""
    by_name = dict(zip([run["name"] for run in runs], curves, strict=True))
    colours = {run["name"]: _look(index)["color"] for index, run in enumerate(runs)}
    for index, (run, found) in enumerate(zip(runs, curves, strict=True)):
        start = by_name.get(run["origin"], found)
        x, y = (found[corpus].bits - start[corpus].bits[0] for corpus in corpora)
        axes.plot(x, y, **_look(index))
    for point in points:
        colour = colours.get(point.run, style.GREY)
        axes.plot(
            *(point.domain, point.general),
            **{"marker": "o", "color": colour, "markerfacecolor": "white", "markersize": 4.5},
        )
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.GREY, linewidth=0.7, zorder=1)
    axes.set_xlabel(f"{corpora[0]}\nchange in bits per byte", linespacing=1.4)
    axes.set_ylabel(f"{corpora[1]}\nchange in bits per byte", linespacing=1.4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def draw_forgetting(
    drawn: Figure,
    curves: list[dict[str, Curve]],
    runs: list[dict[str, str]],
    corpora: list[str],
    points: list[Point],
) -> None:
    """Figure 3: left bits per byte over tokens, right the general corpus over the domain.

    Args:
        drawn: empty figure.
        curves: of each run, by corpus.
        runs: objects with `name` and `origin`, the name of the run that began with the base model.
        corpora: the domain and, if there is one, the general corpus; without it only the left part is drawn.
        points: interpolated models.
    """
    if len(corpora) == 1:
        (left,) = panels = [drawn.subplots()]
        _draw_over_tokens(left, curves, runs, corpora[0])
    else:
        domain, general = corpora
        found = drawn.subplot_mosaic([[general, "paths"], [domain, "paths"]])
        panels = [found[general], found[domain]]
        for axes, corpus in zip(panels, (general, domain), strict=True):
            _draw_over_tokens(axes, curves, runs, corpus)
        panels[0].tick_params(labelbottom=False)
        _draw_paths(found["paths"], curves, runs, corpora, points)
    drawn.align_ylabels(panels)
    panels[-1].set_xlabel("Training tokens (logarithmic)")
    handles, labels = panels[0].get_legend_handles_labels()
    if points:
        hollow = {"marker": "o", "color": style.GREY, "markerfacecolor": "white", "linestyle": "none"}
        handles.append(Line2D([], [], markersize=4.5, **hollow))
        labels.append("interpolated with the base model")
    style.legend(drawn, 3, handles=handles, labels=labels)
