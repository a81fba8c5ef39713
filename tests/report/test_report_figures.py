"""Figures: what is drawn, in which files, equal byte for byte."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_experiment import PUBLISHED

from cpt.config_sections import TokenQualityFilter
from cpt.errors import UserError
from cpt.report import style
from cpt.report.score_figures import draw_changes
from cpt.report.training_figures import draw_losses, draw_schedules, read_losses, read_schedule, smooth
from figure1 import figure1
from figure2 import figure2
from figure3 import figure3
from figure4 import figure4
from figure5 import figure5
from figure6 import figure6
from token_quality import token_quality


def draw(experiment: SimpleNamespace, stage: str, folder: Path) -> list[Path]:
    """Run the stage of a figure; return the files."""
    root, config = experiment.root, experiment.config
    trained = {run: tokens for run, tokens in experiment.runs.items() if tokens}
    files = [folder / f"figure.{kind}" for kind in ("pdf", "png", "svg")]
    if stage == "figure1":
        figure1([root / "runs" / run / "metrics.csv" for run in trained], trained, files)
    elif stage == "figure2":
        figure2(root / "scores.csv", experiment.runs, config["evaluate"]["groups"], 0, files, PUBLISHED)
    elif stage == "figure3":
        first, second = trained
        names = product([first, second], experiment.corpora)  # two models; the first is the base
        sum_losses = [
            root / "evaluations" / run / f"bits_per_byte.{corpus}.documents.csv" for run, corpus in names
        ]
        losses, document_losses = (
            [root / "runs" / run / f"held_out{part}.csv" for run in trained] for part in ("", "_documents")
        )
        tokens = [root / "corpora" / corpus / "held_out.1024.npz" for corpus in experiment.corpora]
        origins = {first: first, second: first}
        sums = {"between": {"base": 0.5, first: 0.5}}
        figure3(losses, document_losses, 2 * tokens, origins, experiment.corpora, sums, files, sum_losses)
    elif stage == "figure4":
        labels = {name: task["label"] for name, task in experiment.tasks.items()}
        figure4(root / "comparisons.csv", labels, files)
    elif stage == "figure5":
        figure5(root / "letters.csv", "mmlu", files)
    elif stage == "figure6":
        figure6(root / "corpora" / "statistics.csv", files)
    else:
        thresholds = TokenQualityFilter().model_dump()
        token_quality(root / "corpora" / "token_quality.csv", thresholds, files)
    return files


@pytest.mark.parametrize("stage", [*(f"figure{number}" for number in range(1, 7)), "token_quality"])
def test_files_are_complete_and_equal_byte_for_byte(
    experiment: SimpleNamespace, tmp_path: Path, stage: str
) -> None:
    first, second = (draw(experiment, stage, tmp_path / name) for name in "ab")
    for path, start in zip(first, (b"%PDF", b"\x89PNG", b"<?xml"), strict=True):
        assert path.read_bytes().startswith(start)
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
    pdf = first[0].read_bytes()
    assert b"CreationDate" not in pdf
    assert b"/FontFile2" in pdf  # the fonts are embedded


def test_short_runs_are_drawn_raw_and_long_ones_smoothed(experiment: SimpleNamespace) -> None:
    steps, values = read_losses(experiment.root / "runs" / "cpt-10K" / "metrics.csv")
    raw = Figure()
    draw_losses(raw, [(steps, values)], {"short": 10_240})
    (line,) = raw.axes[0].lines
    assert np.array_equal(line.get_ydata(), values)
    assert raw.legends[0].get_title().get_text() == ""
    assert raw.legends[0].texts[0].get_text() == "short: 10.2K tokens, 10 steps"

    for count, window in ((100, 21), (20, 5)):
        smoothed = Figure()
        steps, values = np.arange(1, count + 1), np.linspace(3, 2, count)
        draw_losses(smoothed, [(steps, values)], {"long": 10**9})
        thin, thick = smoothed.axes[0].lines
        assert thin.get_linewidth() < thick.get_linewidth()
        assert f"mean over {window} steps" in smoothed.legends[0].get_title().get_text()


def test_metrics_of_a_run_under_way_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,skipped\n1,3.5,0\n2,nan,1\n3,3.25,0\n4,3.1")  # the last row is being written
    steps, losses = read_losses(path)
    assert list(steps) == [1, 3] and list(losses) == [3.5, 3.25]


def test_smoothing_keeps_straight_lines_and_averages_noise() -> None:
    line = np.linspace(3, 2, 60)
    assert smooth(line, 21) == pytest.approx(line)
    values = np.random.default_rng(0).standard_normal(60)
    assert smooth(values, 21)[30] == pytest.approx(values[20:41].mean())
    assert smooth(values, 21)[0] == pytest.approx(values[0])
    assert smooth(values, 21)[58] == pytest.approx(values[57:60].mean())


def test_both_panels_show_what_their_titles_say(experiment: SimpleNamespace) -> None:
    drawn = Figure()
    groups = experiment.config["evaluate"]["groups"]
    draw_changes(drawn, experiment.scores, groups, experiment.runs, experiment.published, seed=0)
    ours, paper = drawn.axes
    assert "This experiment" in ours.get_title()
    assert "n = 40 (subset), 95 % CI" in ours.get_title()
    assert "Published" in paper.get_title()
    assert [text.get_text() for text in paper.texts] == [
        "+4.9 %",
        "+6.6 %",
        "\N{MINUS SIGN}2.0 %",
        "\N{MINUS SIGN}2.8 %",
    ]
    drawn.canvas.draw()
    assert [tick.get_text() for tick in ours.get_xticklabels()] == ["0", "10.2K", "25.6K"]
    assert [tick.get_text() for tick in paper.get_xticklabels()] == ["0", "400M", "1B"]
    shown = {(r["run"], r["task"]): r["score"] for r in experiment.scores if r["shown"]}
    tasks = groups["general"]
    expected = 100 * (sum(shown["cpt-25K", t] for t in tasks) / sum(shown["base", t] for t in tasks) - 1)
    container = ours.containers[1]
    assert container.lines[0].get_ydata()[-1] == pytest.approx(expected, abs=1e-3)
    assert container.has_yerr


def test_each_budget_has_a_tick_and_a_label_where_there_is_room(experiment: SimpleNamespace) -> None:
    runs = {f"r{i}": i * 1_000_000 for i in range(14)}
    rows = [row for row in experiment.scores if row["run"] == "base"]
    scores = [{**row, "run": run, "tokens": tokens} for run, tokens in runs.items() for row in rows]
    drawn = Figure()
    groups = experiment.config["evaluate"]["groups"]
    draw_changes(drawn, scores, groups, runs, {}, seed=0)
    (axes,) = drawn.axes  # without the paper's
    drawn.canvas.draw()
    assert axes.get_xticks().tolist() == list(runs.values())
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert [label for label in labels if label] == ["0", "2M", "4M", "6M", "8M", "10M", "13M"]
    assert "This experiment" in axes.get_title() and len(drawn.legends[0].texts) == len(groups)


def test_runs_of_equal_budget_are_drawn_side_by_side(experiment: SimpleNamespace) -> None:
    runs = {run: min(tokens, 10_240) for run, tokens in experiment.runs.items()}
    drawn = Figure()
    groups = experiment.config["evaluate"]["groups"]
    draw_changes(drawn, experiment.scores, groups, runs, experiment.published, seed=0)
    ours = drawn.axes[0]
    assert [tick.get_text() for tick in ours.get_xticklabels()] == ["base", "cpt-10K", "cpt-25K"]
    assert {container.lines[0].get_linestyle() for container in ours.containers} == {"None"}


def test_bad_metrics_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,2.5\n2,nan\n")
    with pytest.raises(UserError, match=r"metrics\.csv: the loss at step 2 isn't finite"):
        read_losses(path)
    path.write_text("step,loss\n")
    with pytest.raises(UserError, match="no rows"):
        read_losses(path)
    path.write_text("step,tokens\n1,2\n")
    with pytest.raises(UserError, match="loss is missing"):
        read_losses(path)


def test_schedules_are_drawn_over_tokens(tmp_path: Path) -> None:
    path = tmp_path / "schedule.csv"
    path.write_text("step,tokens,learning_rate\n1,2000,5e-05\n2,4000,0.0001\n3,5000,2.5e-05\n")
    tokens, rates = read_schedule(path)
    assert tokens.tolist() == [2000, 4000, 5000] and rates.tolist() == [5e-5, 1e-4, 2.5e-5]
    with style.figure(height=2.6) as drawn:
        draw_schedules(drawn, [(tokens, rates)], ["cpt-5K"])
        (line,) = drawn.axes[0].lines
        assert line.get_xydata().tolist() == [[2000, 5e-5], [4000, 1e-4], [5000, 2.5e-5]]
        assert line.get_label() == "cpt-5K: 3 steps"


@pytest.mark.parametrize(
    ("name", "columns"), [("cpt-5K", 3), ("replay-of-general-text-5K", 2), ("x" * 99, 1)]
)
def test_long_names_take_fewer_columns_of_a_legend(name: str, columns: int) -> None:
    schedule = np.array([2000, 4000]), np.array([5e-5, 1e-4])
    with style.figure(height=2.6) as drawn:
        draw_schedules(drawn, [schedule] * 3, [name] * 3)
        (legend,) = drawn.legends
        drawn.draw_without_rendering()
        assert legend._ncols == columns
        assert columns == 1 or legend.get_window_extent().width <= drawn.bbox.width
