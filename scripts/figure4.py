from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.comparisons import read_comparisons
from cpt.report.score_figures import base_comparisons, draw_differences, height_of_differences


def figure4(comparisons: Path, labels: dict[str, str], figure: Sequence[Path]) -> None:
    """Draw Figure 4: paired differences from the base model by task and run, and what could be detected.

    Args:
        comparisons: comparisons.csv.
        labels: the name of each task.
        figure: files to write, in the formats of their suffixes.
    """
    rows = base_comparisons(read_comparisons(comparisons))
    with style.figure(height_of_differences(rows), figure) as drawn:
        draw_differences(drawn, rows, labels)


if __name__ == "__main__":
    run(figure4)
