"""Figures along training: losses (1), bits per byte of domain and general text (3), learning rates."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from cpt.errors import UserError
from cpt.files import read_json
from cpt.report import style
from cpt.report.labels import count_label
from cpt.report.rows import grouped, read_rows

# Steps of the centred mean, by the length of the longest run; shorter ones are drawn as they are.
WINDOWS = ((50, 21), (12, 5))
# Sums of models: on the way from the base model to a run, and any others.
BETWEEN = {"marker": "o", "markerfacecolor": "white", "markersize": 4.5, "linestyle": "none"}
ELSEWHERE = {**BETWEEN, "marker": "s", "color": style.GREY}


def read_losses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps (int64) and training losses (float64, nats per token) of a metrics.csv.

    Steps that training skipped are skipped, and so is a last row that is still being written.

    Raises UserError if the file has no rows, lacks a column or holds a loss that isn't finite.
    """
    rows = read_rows(path, ("step", "loss"))
    rows = [row for row in rows if None not in row.values() and row.get("skipped") != "1"]
    steps = np.array([int(row["step"]) for row in rows])
    losses = np.array([float(row["loss"]) for row in rows])
    if not np.isfinite(losses).all():
        step = steps[~np.isfinite(losses)][0]
        raise UserError(
            f"{path}: the loss at step {step} isn't finite; lower train.learning_rate for this run"
        )
    return steps, losses


def smooth(losses: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` steps (an odd number).

    Near the ends the window shrinks on both sides, so the mean never lags.
    """
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    index = np.arange(len(losses))
    reach = np.minimum(window // 2, np.minimum(index, len(losses) - 1 - index))
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def draw_losses(drawn: Figure, losses: list[tuple[np.ndarray, np.ndarray]], runs: dict[str, int]) -> None:
    """Figure 1: training loss of each run over its steps; `runs` are budgets by name."""
    axes = drawn.subplots()
    longest = max(len(steps) for steps, _ in losses)
    window = next((window for least, window in WINDOWS if longest >= least), 1)
    parts = ("color", "marker") if longest < WINDOWS[0][0] else ("color",)
    for index, ((run, budget), (steps, values)) in enumerate(zip(runs.items(), losses, strict=True)):
        look, label = style.look(index, *parts), f"{run}: {count_label(budget)} tokens, {len(steps):,} steps"
        if window == 1:
            axes.plot(steps, values, linewidth=1, markersize=3.5, label=label, **look)
        else:
            axes.plot(steps, values, linewidth=0.5, markersize=2.5, alpha=0.45, **look)
            axes.plot(steps, smooth(values, window), label=label, **style.look(index, "color", "linestyle"))
    axes.set_xlabel("Training step")
    axes.set_ylabel("Training loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    title = f"Thin: each step. Thick: centred mean over {window} steps." if window > 1 else None
    style.legend(drawn, 2, title=title)


def read_schedule(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (int64) and learning rates (float64) after each step, from a run's schedule.csv."""
    rows = read_rows(path, ("tokens", "learning_rate"))
    return (
        np.array([int(row["tokens"]) for row in rows]),
        np.array([float(row["learning_rate"]) for row in rows]),
    )


def draw_schedules(
    drawn: Figure, schedules: list[tuple[np.ndarray, np.ndarray]], runs: Collection[str]
) -> None:
    """Learning rate of each run over its training tokens."""
    axes = drawn.subplots()
    for index, (run, (tokens, rates)) in enumerate(zip(runs, schedules, strict=True)):
        label = f"{run}: {len(rates):,} steps"
        axes.plot(tokens, rates, label=label, **style.look(index, "color", "linestyle"))
    axes.set_xlabel("Training tokens")
    axes.set_ylabel("Learning rate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(0, 0), useMathText=True)
    axes.xaxis.set_major_formatter(lambda value, _: count_label(round(value)))
    style.legend(drawn, min(3, len(runs)))


class Curve(NamedTuple):
    """Bits per byte of one corpus along a run.

    Attributes:
        tokens: int64 [measurements], training tokens before each; begins with 0.
        bits: float64 [measurements].
    """

    tokens: np.ndarray
    bits: np.ndarray


class Point(NamedTuple):
    """Changes in bits per byte of a sum of models against the base model.

    Attributes:
        name: of the sum.
        run: at the other end, if it lies between the base model and one run.
        share: that run's coefficient.
    """

    name: str
    run: str | None
    share: float
    domain: float
    general: float


def read_curves(path: Path) -> dict[str, Curve]:
    """The curves of a run's held_out.csv, by corpus. Raises UserError for a file without measurements."""
    curves = {}
    for corpus, rows in grouped(read_rows(path, ("tokens", "corpus", "bits_per_byte")), "corpus").items():
        tokens = np.array([int(row["tokens"]) for row in rows])
        curves[corpus] = Curve(tokens, np.array([float(row["bits_per_byte"]) for row in rows]))
        if not np.isfinite(curves[corpus].bits).all():
            raise UserError(f"{path}: bits per byte of {corpus} aren't finite; train the run again")
    return curves


def read_points(bits: Sequence[Path], merges: dict[str, dict[str, float]], corpora: list[str]) -> list[Point]:
    """Changes of sums of models against the base model.

    Args:
        bits: files with bits per byte of the base model, then of each sum, for each corpus; or none.
        merges: coefficients of each sum.
        corpora: the domain and the general corpus.
    """
    if not merges:
        return []
    values = np.reshape([read_json(path)["bits_per_byte"] for path in bits], (-1, len(corpora)))
    changes = values[1:] - values[0]  # [models, corpora]
    points = []
    for (name, merge), change in zip(merges.items(), changes, strict=True):
        others = [model for model in merge if model != "base"]
        between = len(others) == 1 and "base" in merge
        points.append(Point(name, others[0] if between else None, merge[others[0]], *change))
    return points


def _look(index: int) -> dict[str, Any]:
    """A run's line, with its marker at the last point."""
    look = style.look(index, "color", "linestyle", "marker")
    return {**look, "markevery": [-1], "markersize": 4.5, "linewidth": 1.2}


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
    axes.xaxis.set_major_formatter(lambda value, _: count_label(value))
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
    lines = {}
    for index, (run, of_run) in enumerate(curves.items()):
        start = curves.get(origins[run], of_run)
        x, y = (of_run[corpus].bits - start[corpus].bits[0] for corpus in corpora)
        (lines[run],) = axes.plot(x, y, **_look(index))
    for run, line in lines.items():  # from the base model over the sums to the run, by the run's share
        between = {point.share: (point.domain, point.general) for point in points if point.run == run}
        if between:
            way = sorted({**between, 0.0: (0.0, 0.0), 1.0: tuple(line.get_xydata()[-1])}.items())
            axes.plot(
                *zip(*(change for _, change in way), strict=True), ":", linewidth=0.8, color=line.get_color()
            )
            axes.plot(*zip(*between.values(), strict=True), **BETWEEN, color=line.get_color())
    for point in points:
        if point.run not in lines:
            axes.plot(point.domain, point.general, **ELSEWHERE)
            offset = {"xytext": (4, 3), "textcoords": "offset points"}
            axes.annotate(point.name, (point.domain, point.general), fontsize=6, **offset)
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
        points: sums of models.
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
    between = {point.run in curves for point in points}
    if True in between:
        handles.append(Line2D([], [], **{**BETWEEN, "color": style.GREY}))
        labels.append("between the base model and the run")
    if False in between:
        handles.append(Line2D([], [], **ELSEWHERE))
        labels.append("other sums of models")
    style.legend(drawn, 3, handles=handles, labels=labels)
