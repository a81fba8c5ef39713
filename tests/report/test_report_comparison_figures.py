"""Figures 4 and 5: intervals next to detectable differences, letters next to right ones; bad files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from report_experiment import PUBLISHED, build, write_tables
from report_tasks import TASKS, add_tasks

from cpt.errors import UserError
from cpt.report.comparisons import read_comparisons
from cpt.report.score_figures import (
    base_comparisons,
    draw_changes,
    draw_differences,
    draw_letters,
    height_of_differences,
    read_letters,
)
from cpt.report.scores import AVERAGE, read_published

LETTERS = """run,tokens,task,letter,items,gold,answered,right
base,0,mmlu,A,100,20,70,15
base,0,mmlu,B,100,80,30,25
cpt,9,mmlu,A,100,20,10,5
cpt,9,mmlu,B,100,80,90,75
cpt,9,piqa,A,100,50,10,5
"""


def test_forest_draws_each_difference_from_base_with_its_interval_and_reach(
    experiment: SimpleNamespace,
) -> None:
    chosen = base_comparisons(read_comparisons(experiment.root / "comparisons.csv"))
    assert list(chosen) == [*experiment.tasks, "average"]
    assert all(list(task_rows) == ["cpt-10K", "cpt-25K"] for task_rows in chosen.values())
    chosen["mmlu"]["cpt-10K"]["p_holm"] = 0.01
    chosen["arc_easy"]["cpt-10K"]["detectable_difference"] = None  # no item changed
    drawn = Figure()
    draw_differences(drawn, chosen, {task: task for task in experiment.tasks})
    (axes,) = drawn.axes
    rows = [row for task_rows in chosen.values() for row in task_rows.values()]
    intervals = [
        line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"
    ]
    intervals = [tuple(ends) for ends in intervals if tuple(ends) not in {(0, 1), (0, 0)}]
    assert intervals == [(100 * row["ci_low"], 100 * row["ci_high"]) for row in rows]
    points = [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in points] == [100 * row["difference"] for row in rows]
    hollow = [line.get_markerfacecolor() == "white" for line in points]
    assert hollow == [row["p_holm"] >= 0.05 for row in rows] and not hollow[0]
    bands = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    reach = [100 * (row["detectable_difference"] or 0) for row in rows]
    assert [patch.get_width() / 2 for patch in bands] == pytest.approx(reach)
    assert [text.get_text() for text in axes.get_yticklabels()] == [*experiment.tasks, "Average"]


def test_letters_are_shares_and_always_one_letter_scores_its_share(tmp_path: Path) -> None:
    (tmp_path / "letters.csv").write_text(LETTERS)
    letters = read_letters(tmp_path / "letters.csv", "mmlu")
    assert {run: sum(row["right"] for row in rows) for run, rows in letters.items()} == {
        "base": 40,
        "cpt": 80,
    }
    drawn = Figure()
    draw_letters(drawn, letters)
    shares, scores = drawn.axes
    assert [bar.get_height() for bar in shares.patches] == [70, 30, 10, 90]
    names = [text.get_text() for text in scores.get_yticklabels()]
    assert names == ["base", "cpt", "always A", "always B"]
    points = [line.get_xdata()[0] for line in scores.lines if len(line.get_xdata()) == 1]
    assert points == [0.4, 0.8, 0.2, 0.8]


@pytest.mark.parametrize(
    ("text", "task"),
    [(LETTERS, "boolq"), (LETTERS.replace("cpt,9,mmlu,A,100,20", "cpt,9,mmlu,A,100,21"), "mmlu")],
)
def test_letters_of_no_or_of_different_items_are_refused(tmp_path: Path, text: str, task: str) -> None:
    (tmp_path / "letters.csv").write_text(text)
    with pytest.raises(UserError, match=r"letters\.csv: expected \w+ with the same items"):
        read_letters(tmp_path / "letters.csv", task)


def test_figures_take_what_they_can_draw(tmp_path: Path) -> None:
    """Figure 2 draws tasks whose items are right or wrong, Figure 4 all scores between 0 and 1."""
    parts = build(tmp_path)
    add_tasks(tmp_path, parts, TASKS)
    scores = write_tables(tmp_path, parts)
    rows = base_comparisons(read_comparisons(tmp_path / "comparisons.csv"))
    assert set(rows) == {*parts["metrics"], AVERAGE} - {"lambada_openai", "wikitext", "wmt"}
    groups = {"mixed": ["piqa", "gsm8k", "reading"], "none": ["wikitext", "wmt"]}
    drawn = Figure()
    draw_changes(drawn, scores, groups, parts["runs"], read_published(PUBLISHED), 0)
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["mixed (2 tasks)"]
    empty = Figure()
    draw_changes(empty, scores, {"none": groups["none"]}, parts["runs"], read_published(PUBLISHED), 0)
    assert not empty.legends


def test_without_accuracies_figure_4_says_so() -> None:
    drawn = Figure()
    draw_differences(drawn, {}, {})
    assert [text.get_text() for text in drawn.texts] == ["no task has scores between 0 and 1"]
    assert height_of_differences({}) > 0.5
