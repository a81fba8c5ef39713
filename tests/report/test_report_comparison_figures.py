"""Figures 4 and 5: intervals beside what can be detected, letters beside the right ones; and bad files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cpt.errors import UserError
from cpt.report.comparisons import read_comparisons
from cpt.report.score_figures import base_comparisons, draw_differences, draw_letters, read_letters

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
    assert all(list(of_task) == ["cpt-10K", "cpt-25K"] for of_task in chosen.values())
    chosen["mmlu"]["cpt-10K"]["p_holm"] = 0.01
    chosen["arc_easy"]["cpt-10K"]["detectable_difference"] = None  # no item changed
    drawn = Figure()
    draw_differences(drawn, chosen, {task: task for task in experiment.tasks})
    (axes,) = drawn.axes
    rows = [row for of_task in chosen.values() for row in of_task.values()]
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
    found = read_letters(tmp_path / "letters.csv", "mmlu")
    assert {run: sum(row["right"] for row in rows) for run, rows in found.items()} == {"base": 40, "cpt": 80}
    drawn = Figure()
    draw_letters(drawn, found)
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
def test_letters_of_no_or_of_unlike_items_are_refused(tmp_path: Path, text: str, task: str) -> None:
    (tmp_path / "letters.csv").write_text(text)
    with pytest.raises(UserError, match=r"letters\.csv: expected \w+ with the same items"):
        read_letters(tmp_path / "letters.csv", task)
