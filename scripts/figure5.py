from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.score_figures import draw_letters, height_of_letters, read_letters


def figure5(letters: Path, task: str, figure: Sequence[Path]) -> None:
    """Draw Figure 5: the letters that each run answers on a task, beside the right ones, and its score.

    Args:
        letters: letters.csv.
        task: the task whose answers are letters.
        figure: files to write, in the formats of their suffixes.
    """
    answers = read_letters(letters, task)
    with style.figure(height_of_letters(answers), figure) as drawn:
        draw_letters(drawn, answers)


if __name__ == "__main__":
    run(figure5)
