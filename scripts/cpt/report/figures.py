"""Figures 1 and 2 of the paper from this experiment's metrics and scores, and its schedules."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.errors import UserError
from cpt.report import style
from cpt.report.labels import count_label
from cpt.report.resampling import relative_change_interval
from cpt.report.rows import Row, read_rows
from cpt.report.scores import base_run, pairs_of, shown_rows
from cpt.report.statistics import relative_change

# Steps of the centred mean, by the length of the longest run; shorter ones are drawn as they are.
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
    for index, ((run, budget), (steps, values)) in enumerate(zip(runs.items(), losses, strict=True)):
        colour = style.RUN_COLOURS[index % len(style.RUN_COLOURS)]
        marker = style.MARKERS[index % len(style.MARKERS)] if longest < WINDOWS[0][0] else None
        label = f"{run}: {count_label(budget)} tokens, {len(steps):,} steps"
        if window == 1:
            axes.plot(steps, values, color=colour, linewidth=1, marker=marker, markersize=3.5, label=label)
        else:
            line = style.LINES[index % len(style.LINES)]
            axes.plot(steps, values, color=colour, linewidth=0.5, marker=marker, markersize=2.5, alpha=0.45)
            axes.plot(steps, smooth(values, window), color=colour, linestyle=line, label=label)
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
        colour = style.RUN_COLOURS[index % len(style.RUN_COLOURS)]
        line = style.LINES[index % len(style.LINES)]
        label = f"{run}: {len(rates):,} steps"
        axes.plot(tokens, rates, color=colour, linestyle=line, label=label)
    axes.set_xlabel("Training tokens")
    axes.set_ylabel("Learning rate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(0, 0), useMathText=True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(round(value))))
    style.legend(drawn, min(3, len(runs)))


def _group_changes(
    rows: dict[tuple[str, str], Row], runs: list[str], base: str, tasks: list[str], seed: int
) -> tuple[list[float], list[tuple[float, float]]]:
    changes, intervals = [], []
    for run in runs:
        pairs = [pairs_of(rows[run, task]) for task in tasks]
        changes.append(relative_change([p.run_score for p in pairs], [p.base_score for p in pairs]))
        intervals.append((0.0, 0.0) if run == base else relative_change_interval(pairs, seed))
    return changes, intervals


def published_changes(published: dict[str, dict[str, float]], tasks: list[str]) -> list[float]:
    """Change in % of a group's mean against the paper's base model, for each run of its Table 1.

    NaN for a group with tasks that the paper doesn't have.
    """
    base = next(run for run in published.values() if run["tokens"] == 0)
    return [
        relative_change([run.get(task, np.nan) for task in tasks], [base.get(task, np.nan) for task in tasks])
        for run in published.values()
    ]


def _token_axis(axes: Axes, tokens: list[float]) -> None:
    ticks = sorted(set(tokens))
    if len(ticks) <= 4 and min(np.diff(ticks), default=1) > 0.15 * ticks[-1]:
        axes.set_xticks(ticks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.set_xlim(-0.08 * ticks[-1], 1.12 * ticks[-1])
    axes.set_xlabel("Tokens of continued pre-training")


def _items(rows: dict[tuple[str, str], Row]) -> str:
    counts = sorted({row["n"] for row in rows.values()})
    full = all(row["n"] == row["items_of_full"] for row in rows.values())
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}\N{EN DASH}{counts[-1]:,}"
    return f"n = {span} ({'all' if full else 'subset'})"


def _draw_published(axes: Axes, budgets: list[float], changes: list[float], look: dict[str, Any]) -> None:
    axes.plot(budgets, changes, **look)
    for budget, change in zip(budgets, changes, strict=True):
        if budget:
            axes.annotate(
                f"{change:+.1f} %".replace("-", "\N{MINUS SIGN}"),
                (budget, change),
                xytext=(0, 6 if change > 0 else -6),
                textcoords="offset points",
                ha="center",
                va="bottom" if change > 0 else "top",
                color=look["color"],
                fontsize=8,
            )


def draw_changes(
    drawn: Figure,
    scores: list[Row],
    groups: dict[str, list[str]],
    runs: dict[str, int],
    published: dict[str, dict[str, float]],
    seed: int,
) -> None:
    """Figure 2: change of each group's mean score against base, ours left, the paper's right.

    The horizontal axis is the token budget; where budgets repeat, the runs stand side by side by name.
    """
    ours, paper = drawn.subplots(1, 2, sharey=True)
    rows, base = shown_rows(scores), base_run(runs)
    names, budgets = list(runs), list(runs.values())
    distinct = len(set(budgets)) == len(budgets)  # else a line over tokens would join unlike runs
    positions = budgets if distinct else list(range(len(runs)))
    of_budgets = [run["tokens"] for run in published.values()]
    step = 0.05 * max(positions)  # so that the error bars of the groups stand side by side
    for index, (group, tasks) in enumerate(groups.items()):
        look = {
            "color": style.GROUP_COLOURS[index % len(style.GROUP_COLOURS)],
            "marker": style.MARKERS[index % len(style.MARKERS)],
            "markersize": 4.5,
            "label": f"{group} ({len(tasks)} tasks)",
        }
        changes, intervals = _group_changes(rows, names, base, tasks, seed)
        errors = np.array([(c - low, high - c) for c, (low, high) in zip(changes, intervals, strict=True)]).T
        shift = step * (index - (len(groups) - 1) / 2)
        x = [position + (shift if budget else 0) for position, budget in zip(positions, budgets, strict=True)]
        line = "-" if distinct else "none"
        ours.errorbar(x, changes, np.maximum(errors, 0), capsize=2.5, elinewidth=1, linestyle=line, **look)
        _draw_published(paper, of_budgets, published_changes(published, tasks), look)
    ours.set_title(f"This experiment\n{_items(rows)}, 95 % CI")
    paper.set_title("Published\nfrom the paper's Table 1")
    ours.set_ylabel("Change of the mean score\nagainst the base model (%)")
    _token_axis(paper, of_budgets)
    if distinct:
        _token_axis(ours, budgets)
    else:
        ours.set_xticks(positions, names, rotation=40, ha="right", rotation_mode="anchor")
    for axes in (ours, paper):
        axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        axes.margins(y=0.18)  # room for the numbers beside the points
    handles, labels = paper.get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=len(groups))
