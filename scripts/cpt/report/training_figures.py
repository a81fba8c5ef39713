"""Figures along training: losses (1), learning rates."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cpt.errors import UserError
from cpt.report import style
from cpt.report.labels import count_label
from cpt.report.rows import read_rows

# (steps that the longest run must have, steps of the centred mean for all runs); if the longest run has fewer
# than the last minimum, none is smoothed.
WINDOWS = ((50, 21), (12, 5))


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
