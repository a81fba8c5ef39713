"""Figure 3: bits per byte of domain and general text along training, with their intervals (forgetting)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from cpt.errors import UserError
from cpt.report import style
from cpt.report.held_out import Losses, held_out_rows, read_losses
from cpt.report.held_out_text import count_text
from cpt.report.labels import count_label
from cpt.report.rows import Row, grouped, read_rows
from cpt.token_windows import FEWEST_GROUPS, load_held_out

# Markers of sums of models: between the base model and a run, and any others.
BETWEEN = {"marker": "o", "markerfacecolor": "white", "markersize": 4.5, "linestyle": "none"}
ELSEWHERE = {**BETWEEN, "marker": "s", "color": style.GREY}
# On the token axis: length of the part before the first step, in decades; share of the axis for a label.
LINEAR, LABEL = 0.6, 0.2


class Curve(NamedTuple):
    """Bits per byte of one corpus along a run, on the same documents.

    Attributes:
        tokens: int64 [measurements], training tokens before each; begins with 0.
        bits: float64 [measurements].
        changes: float64 [3, measurements]: the change in bits per byte against the model that the run's chain
            began with, and the lower and upper end of its 95 % interval (NaN without interval).
        documents, groups: how many were measured.
    """

    tokens: np.ndarray
    bits: np.ndarray
    changes: np.ndarray
    documents: int
    groups: int


class Point(NamedTuple):
    """Changes in bits per byte of a sum of models against the base model.

    Attributes:
        name: of the sum.
        run: the run at the other end, if the sum lies between the base model and one run.
        share: that run's coefficient.
        domain, general: float64 [3]: change, and lower and upper end of its 95 % interval.
    """

    name: str
    run: str | None
    share: float
    domain: np.ndarray
    general: np.ndarray


class Measured(NamedTuple):
    """Losses on held-out text along a run.

    Attributes:
        tokens: int64 [measurements], training tokens before each.
        losses: of each measurement, by corpus.
    """

    tokens: np.ndarray
    losses: dict[str, list[Losses]]


def read_measured(along: Path, by_document: Path, held_out: dict[str, Path]) -> Measured:
    """Read a run's loss on each held-out document, measurement by measurement.

    Args:
        along: the run's held_out.csv.
        by_document: its held_out_documents.csv.
        held_out: held-out tokens (.npz) that it was measured on, by corpus; other corpora are skipped.

    Raises UserError for a file without measurements, or one that doesn't fit these documents.
    """
    tokens = {row["step"]: int(row["tokens"]) for row in read_rows(along, ("step", "tokens"))}
    rows_by_corpus = grouped(read_rows(by_document, ("step", "corpus", "document", "nats")), "corpus")
    losses: dict[str, list[Losses]] = {}
    for corpus, path in held_out.items():
        documents = load_held_out(path)
        steps = grouped(rows_by_corpus.get(corpus, []), "step")
        for rows in steps.values():
            nats = np.array([float(row["nats"]) for row in rows])
            losses.setdefault(corpus, []).append(Losses(by_document, documents.groups, documents.bytes, nats))
        if list(steps) != list(tokens) or {len(rows) for rows in steps.values()} != {len(documents.bytes)}:
            raise UserError(
                f"{by_document}: its losses of {corpus} aren't those of {len(documents.bytes)} documents at "
                f"each of the {len(tokens)} steps of {along.name}; delete both files and train the run again"
            )
        if not all(np.isfinite(each.nats).all() for each in losses[corpus]):
            raise UserError(f"{by_document}: a loss on {corpus} isn't finite; train the run again")
    return Measured(np.array(list(tokens.values())), losses)


def curves_of(
    measured: dict[str, Measured], origins: dict[str, str], seed: int
) -> dict[str, dict[str, Curve]]:
    """The curves of each run, by corpus.

    Args:
        measured: of each run.
        origins: for each run the first run of its chain, which began with the base model. If that one wasn't
            measured, changes are against the run's own beginning.
        seed: of the resampling.

    Raises UserError if a run was measured on other documents than the first run of its chain.
    """
    curves: dict[str, dict[str, Curve]] = {}
    for run, (tokens, losses) in measured.items():
        start = measured.get(origins[run], measured[run]).losses
        for corpus, steps in losses.items():
            rows = held_out_rows([start[corpus][0], *steps], seed)[1:]
            changes = np.stack([_change(row) for row in rows], 1)
            bits = np.array([row["score"] for row in rows])
            curve = Curve(tokens, bits, changes, rows[0]["n"], rows[0]["groups"])
            curves.setdefault(run, {})[corpus] = curve
    return curves


def _change(row: Row) -> np.ndarray:
    """Change in bits per byte, lower and upper end of its interval: float64 [3]."""
    return np.array([row.get(f"difference{part}", np.nan) for part in ("", "_ci_low", "_ci_high")])


def read_points(
    losses: Sequence[Path], merges: dict[str, dict[str, float]], corpora: list[str], seed: int
) -> list[Point]:
    """Changes of sums of models against the base model.

    Args:
        losses: bits_per_byte.{corpus}.documents.csv of the base model, then of each sum, for each corpus;
            empty without sums.
        merges: coefficients of each sum.
        corpora: the domain and the general corpus.
        seed: of the resampling.
    """
    if not merges:
        return []
    models = [read_losses(path) for path in losses]
    changes = [
        [_change(row) for row in held_out_rows(models[number :: len(corpora)], seed)[1:]]
        for number in range(len(corpora))
    ]
    points = []
    for (name, merge), *change in zip(merges.items(), *changes, strict=True):
        others = [model for model in merge if model != "base"]
        between = len(others) == 1 and "base" in merge
        points.append(Point(name, others[0] if between else None, merge[others[0]], *change))
    return points


def _look(index: int) -> dict[str, Any]:
    """A run's line, with its marker at the last point."""
    look = style.look(index, "color", "linestyle", "marker")
    return {**look, "markevery": [-1], "markersize": 4.5, "linewidth": 1.2}


def _draw_over_tokens(axes: Axes, curves: dict[str, dict[str, Curve]], corpus: str) -> None:
    """Plot every run's bits per byte of one corpus over tokens, logarithmic from the first step on, with the
    interval of the change as a band."""
    for index, (run, run_curves) in enumerate(curves.items()):
        curve = run_curves[corpus]
        (line,) = axes.plot(curve.tokens, curve.bits, label=run, **_look(index))
        change, *ends = curve.changes
        low, high = (curve.bits - change + end for end in ends)
        axes.fill_between(curve.tokens, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    all_tokens = np.concatenate([run_curves[corpus].tokens for run_curves in curves.values()])
    first, most = all_tokens[all_tokens > 0].min(), all_tokens.max()
    axes.set_xscale("symlog", linthresh=first, linscale=LINEAR)
    axes.set_xlim(0, most * (most / first) ** 0.06)
    ticks = _token_ticks([run_curves[corpus].tokens for run_curves in curves.values()])
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(f"{corpus}\nbits per byte", linespacing=1.4)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    counts = min((run_curves[corpus].groups, run_curves[corpus].documents) for run_curves in curves.values())
    few = counts[0] < FEWEST_GROUPS
    text = f"{count_text(counts[1], counts[0])}{f': below {FEWEST_GROUPS}' if few else ''}"
    axes.set_title(text, fontsize=7, loc="left", color=style.ORANGE if few else style.GREY)


def _token_ticks(tokens: list[np.ndarray]) -> dict[float, str]:
    """Ticks with their labels: at 0, at each budget and, if there is room, at the first measurement and at
    powers of ten. A budget without room has a tick without a label."""
    budgets = sorted({float(run_tokens[-1]) for run_tokens in tokens}, reverse=True)
    first = min(float(run_tokens[1]) for run_tokens in tokens)
    apart = LABEL * (np.log10(budgets[0] / first) + LINEAR)
    powers = 10.0 ** np.arange(np.ceil(np.log10(first)), np.log10(budgets[0]))
    labelled: list[float] = []
    for tick in (*budgets, first, *powers):
        if all(abs(np.log10(tick / other)) > apart for other in labelled):
            labelled.append(tick)
    labels = {0.0: "0", **dict.fromkeys(budgets, ""), **{tick: count_label(tick) for tick in labelled}}
    return dict(sorted(labels.items()))


def _draw_paths(
    axes: Axes,
    curves: dict[str, dict[str, Curve]],
    corpora: list[str],
    points: list[Point],
) -> None:
    """Plot the general corpus's change over the domain's, against the model that the chains began with."""
    lines = {}
    for index, (run, run_curves) in enumerate(curves.items()):
        x, y = (run_curves[corpus].changes for corpus in corpora)
        (lines[run],) = axes.plot(x[0], y[0], **_look(index))
        _draw_intervals(axes, x[:, -1], y[:, -1], lines[run].get_color())
    for run, line in lines.items():  # from the base model through the sums to the run, by the run's share
        run_points = [point for point in points if point.run == run]
        changes = {point.share: (point.domain[0], point.general[0]) for point in run_points}
        if changes:
            way = sorted({**changes, 0.0: (0.0, 0.0), 1.0: tuple(line.get_xydata()[-1])}.items())
            axes.plot(
                *zip(*(change for _, change in way), strict=True), ":", linewidth=0.8, color=line.get_color()
            )
            axes.plot(*zip(*changes.values(), strict=True), **BETWEEN, color=line.get_color())
        for point in run_points:
            _draw_intervals(axes, point.domain, point.general, line.get_color())
    for point in points:
        if point.run not in lines:
            place = (point.domain[0], point.general[0])
            axes.plot(*place, **ELSEWHERE)
            axes.annotate(point.name, place, fontsize=6, xytext=(4, 3), textcoords="offset points")
            _draw_intervals(axes, point.domain, point.general, style.GREY)
    for line in (axes.axhline, axes.axvline):
        line(0, color=style.GREY, linewidth=0.7, zorder=1)
    axes.set_xlabel(f"{corpora[0]}\nchange in bits per byte", linespacing=1.4)
    axes.set_ylabel(f"{corpora[1]}\nchange in bits per byte", linespacing=1.4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _draw_intervals(axes: Axes, x: np.ndarray, y: np.ndarray, color: str) -> None:
    """Draw a cross of 95 % intervals; x and y [3]: change, lower and upper end."""
    axes.hlines(y[0], x[1], x[2], color=color, linewidth=0.8)
    axes.vlines(x[0], y[1], y[2], color=color, linewidth=0.8)


def draw_forgetting(
    drawn: Figure, curves: dict[str, dict[str, Curve]], corpora: list[str], points: list[Point]
) -> None:
    """Figure 3: left bits per byte over tokens, right the general corpus over the domain.

    Args:
        drawn: empty figure.
        curves: of each run, by corpus.
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
        _draw_paths(mosaic["paths"], curves, corpora, points)
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
    handles.append(Patch(color=style.GREY, alpha=0.3, linewidth=0))
    labels.append("95 % CI of the change")
    style.legend(drawn, 3, handles=handles, labels=labels)
