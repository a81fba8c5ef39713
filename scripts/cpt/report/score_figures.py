"""Figures of scores: changes over tokens (2), differences from the base model (4), letters answered (5)."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cpt.errors import UserError
from cpt.report import style
from cpt.report.labels import MINUS, count_label
from cpt.report.resampling import relative_change_interval
from cpt.report.rows import Row, grouped, read_typed
from cpt.report.scores import AVERAGE, base_run, pairs_of, shown_rows
from cpt.report.statistics import SIGNIFICANT, relative_change, wilson_interval

ROW_HEIGHT, GAP = 0.15, 0.6  # of Figure 4: inches for one run; between tasks, in rows
UNDETECTABLE = "#e3e3e3"
LETTER_COLUMNS = ("run", "task", "letter", "items", "gold", "answered", "right")
LETTER_HEIGHT = 0.19  # of a row of Figure 5, in inches
GOLD = "black"


def _group_changes(
    rows: dict[tuple[str, str], Row], runs: list[str], base: str, tasks: list[str], seed: int
) -> tuple[list[float], list[tuple[float, float]]]:
    """Change in % of a group's mean against the base model, and its interval, for each run."""
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
    """Set a tick at each budget; a tick without room has no label."""
    *budgets, most = sorted(set(tokens))
    labelled = [most]
    for tick in budgets:  # the base model first
        if all(abs(tick - other) > 0.15 * most for other in labelled):
            labelled.append(tick)
    ticks = [*budgets, most]
    axes.set_xticks(ticks, [count_label(tick) if tick in labelled else "" for tick in ticks])
    axes.set_xlim(-0.08 * most, 1.12 * most)
    axes.set_xlabel("Tokens of continued pre-training")


def _items(rows: dict[tuple[str, str], Row]) -> str:
    counts = sorted({row["n"] for row in rows.values()})
    full = all(row["n"] == row["items_of_full"] for row in rows.values())
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}\N{EN DASH}{counts[-1]:,}"
    return f"n = {span} ({'all' if full else 'subset'})"


def _draw_published(axes: Axes, budgets: list[float], changes: list[float], look: dict[str, Any]) -> None:
    axes.plot(budgets, changes, **look)
    number = {"ha": "center", "color": look["color"], "fontsize": 8}
    for budget, change in zip(budgets, changes, strict=True):
        if budget:
            side = {"xytext": (0, 6), "va": "bottom"} if change > 0 else {"xytext": (0, -6), "va": "top"}
            text = f"{change:+.1f} %".replace("-", MINUS)
            axes.annotate(text, (budget, change), textcoords="offset points", **side, **number)


def draw_changes(
    drawn: Figure,
    scores: list[Row],
    groups: dict[str, list[str]],
    runs: dict[str, int],
    published: dict[str, dict[str, float]],
    seed: int,
) -> None:
    """Figure 2: change of each group's mean score against base, ours left, the paper's (if any) right.

    The horizontal axis is the token budget; if budgets repeat, the runs are side by side by name. Tasks
    whose items aren't right or wrong are skipped, and so are groups that have only such tasks.
    """
    ours, *others = drawn.subplots(1, 2 if published else 1, sharey=True, squeeze=False)[0]
    rows, base = shown_rows(scores), base_run(runs)
    counted = {
        group: [task for task in tasks if all(rows[run, task]["gained"] is not None for run in runs)]
        for group, tasks in groups.items()
    }
    groups = {group: tasks for group, tasks in counted.items() if tasks}
    names, budgets = list(runs), list(runs.values())
    distinct = len(set(budgets)) == len(budgets)  # else a line over tokens would join unlike runs
    positions = budgets if distinct else list(range(len(runs)))
    paper_budgets = [run["tokens"] for run in published.values()]
    step = 0.05 * max(positions)  # so that the error bars of the groups are side by side
    for index, (group, tasks) in enumerate(groups.items()):
        look = style.look(index, "marker") | {"markersize": 4.5, "label": f"{group} ({len(tasks)} tasks)"}
        look["color"] = style.GROUP_COLOURS[index % len(style.GROUP_COLOURS)]
        changes, intervals = _group_changes(rows, names, base, tasks, seed)
        errors = np.array([(c - low, high - c) for c, (low, high) in zip(changes, intervals, strict=True)]).T
        shift = step * (index - (len(groups) - 1) / 2)
        x = [position + (shift if budget else 0) for position, budget in zip(positions, budgets, strict=True)]
        line = "-" if distinct else "none"
        ours.errorbar(x, changes, np.maximum(errors, 0), capsize=2.5, elinewidth=1, linestyle=line, **look)
        for paper in others:
            _draw_published(paper, paper_budgets, published_changes(published, tasks), look)
    ours.set_title(f"This experiment\n{_items(rows)}, 95 % CI")
    ours.set_ylabel("Change of the mean score\nagainst the base model (%)")
    for paper in others:
        paper.set_title("Published\nfrom the paper's Table 1")
        _token_axis(paper, paper_budgets)
    if distinct:
        _token_axis(ours, budgets)
    else:
        ours.set_xticks(positions, names, rotation=40, ha="right", rotation_mode="anchor")
    for axes in (ours, *others):
        axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        axes.margins(y=0.18)  # room for the numbers beside the points
    handles, labels = ours.get_legend_handles_labels()
    if groups:
        drawn.legend(handles, labels, loc="outside lower center", ncols=len(groups))


def base_comparisons(comparisons: list[Row]) -> dict[str, dict[str, Row]]:
    """The comparisons with the base model that are in the average, and the average's own, by task and run, in
    the order of the file."""
    averaged_rows = [row for row in comparisons if row["averaged"] and row["family"] == "base"]
    return {task: {row["run"]: row for row in rows} for task, rows in grouped(averaged_rows, "task").items()}


def height_of_differences(rows: dict[str, dict[str, Row]]) -> float:
    """The height of Figure 4 in inches."""
    return 0.95 + ROW_HEIGHT * sum(len(runs) + GAP for runs in rows.values())


def draw_differences(drawn: Figure, rows: dict[str, dict[str, Row]], labels: dict[str, str]) -> None:
    """Figure 4: each task's and run's difference in points, 95 % interval, and range that can't be detected.

    A filled marker is a difference whose p, adjusted after Holm, is under 0.05. `labels` are the names of the
    tasks.
    """
    if not rows:
        drawn.text(0.5, 0.5, "no task has scores between 0 and 1", ha="center", va="center")
        return
    axes = drawn.subplots()
    position, ticks, names = 0.0, [], []
    for task, rows_by_run in rows.items():
        if task == AVERAGE:
            axes.axhline(position - (1 + GAP) / 2, color=style.GREY, linewidth=0.7)
        names.append("Average" if task == AVERAGE else labels[task])
        ticks.append(position + (len(rows_by_run) - 1) / 2)
        for index, row in enumerate(rows_by_run.values()):
            _draw_row(axes, position + index, index, row)
        position += len(rows_by_run) + GAP
    axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    axes.set_ylim(position - (1 + GAP) / 2, -(1 + GAP) / 2)
    axes.set_yticks(ticks, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0")
    axes.set_xlabel("Difference from the base model (percentage points)")
    handles: list[Any] = [
        Line2D([], [], markersize=4, linewidth=1.2, label=run, **style.look(index, "color", "marker"))
        for index, run in enumerate(next(iter(rows.values())))
    ]
    hollow = {"color": style.GREY, "marker": style.MARKERS[0], "markersize": 4, "linestyle": "none"}
    label = f"hollow: p after Holm ≥ {SIGNIFICANT:g}"
    handles.append(Line2D([], [], markerfacecolor="white", label=label, **hollow))
    handles.append(Patch(facecolor=UNDETECTABLE, label="not detectable (80 % power)"))
    style.legend(drawn, 3, handles=handles)


def _draw_row(axes: Axes, position: float, index: int, row: Row) -> None:
    low, middle, high = (100 * row[name] for name in ("ci_low", "difference", "ci_high"))
    reach = 100 * (row["detectable_difference"] or 0)  # unknown where no item changed
    axes.barh(position, 2 * reach, 0.92, -reach, color=UNDETECTABLE, zorder=0)
    look = style.look(index, "color", "marker")
    axes.plot([low, high], [position] * 2, color=look["color"], linewidth=1.2, solid_capstyle="butt")
    face = look["color"] if row["p_holm"] < SIGNIFICANT else "white"
    axes.plot(middle, position, markersize=4, markerfacecolor=face, markeredgewidth=1, **look)


def read_letters(path: Path, task: str) -> dict[str, list[Row]]:
    """One task of letters.csv: by run, a row for each letter.

    Raises UserError if the task is missing or the runs' right letters differ.
    """
    table = read_typed(path, LETTER_COLUMNS, {"run", "task", "letter"})
    rows_by_run = grouped([row for row in table if row["task"] == task], "run")
    kinds = {
        tuple((row["letter"], row["items"], row["gold"]) for row in rows) for rows in rows_by_run.values()
    }
    if len(kinds) != 1:
        raise UserError(
            f"{path}: expected {task} with the same items in every run, but found {len(kinds)} kinds; delete "
            "the file and make it again"
        )
    return rows_by_run


def height_of_letters(letters: dict[str, list[Row]]) -> float:
    """The height of Figure 5 in inches."""
    return max(2.5, 0.9 + LETTER_HEIGHT * (len(letters) + len(next(iter(letters.values())))))


def draw_letters(drawn: Figure, letters: dict[str, list[Row]]) -> None:
    """Figure 5. Left: share of each letter in each run's answers and in the right answers. Right: scores,
    beside those of always answering one letter."""
    left, right = drawn.subplots(1, 2, width_ratios=[1.25, 1])
    colours = dict(zip(letters, [style.GREY, *style.RUN_COLOURS * len(letters)], strict=False))
    _draw_shares(left, letters, colours)
    _draw_scores(right, letters, colours)
    handles, names = left.get_legend_handles_labels()
    style.legend(drawn, 4, handles=handles, labels=names)


def _draw_shares(axes: Axes, letters: dict[str, list[Row]], colours: dict[str, str]) -> None:
    gold = next(iter(letters.values()))
    positions, width = np.arange(len(gold)), 0.8 / len(letters)
    for index, (run, rows) in enumerate(letters.items()):
        shift = (index - (len(letters) - 1) / 2) * width
        shares = [100 * row["answered"] / row["items"] for row in rows]
        axes.bar(positions + shift, shares, 0.9 * width, color=colours[run], label=run)
    shares = [100 * row["gold"] / row["items"] for row in gold]
    axes.hlines(shares, positions - 0.46, positions + 0.46, color=GOLD, linewidth=1.5, label="right answers")
    axes.set_xticks(positions, [row["letter"] for row in gold])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Letter answered")
    axes.set_ylabel("Share of the answers (%)")


def _draw_scores(axes: Axes, letters: dict[str, list[Row]], colours: dict[str, str]) -> None:
    gold = next(iter(letters.values()))
    items, point = gold[0]["items"], {"markersize": 4.5, "linestyle": "none"}
    for position, (run, rows) in enumerate(letters.items()):
        right = sum(row["right"] for row in rows)
        axes.plot(right / items, position, color=colours[run], marker="o", **point)
        axes.plot(wilson_interval(right, items), [position] * 2, color=colours[run], linewidth=1.2)
    for position, row in enumerate(gold, len(letters)):
        axes.plot(row["gold"] / items, position, color=GOLD, marker="D", markerfacecolor="white", **point)
    chance = 1 / len(gold)
    axes.axvline(chance, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    look = {"ha": "center", "va": "bottom", "fontsize": 8, "color": style.GREY}
    axes.annotate("chance", (chance, 1), (0, 2), ("data", "axes fraction"), "offset points", **look)
    names = [*letters, *(f"always {row['letter']}" for row in gold)]
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"Score (n = {items:,}, 95 % CI)")
