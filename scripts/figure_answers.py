from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.likelihood_figure import draw_likelihoods, height_of
from cpt.report.likelihoods import read_likelihoods


def figure_answers(answers: Path, labels: dict[str, str], figure: Sequence[Path]) -> None:
    """Draw what each run changes in the likelihood of right and of wrong answers, by task.

    Args:
        answers: answers.csv.
        labels: the name of each task.
        figure: files to write, in the formats of their suffixes.
    """
    rows = read_likelihoods(answers)
    with style.figure(height_of(rows), figure) as drawn:
        draw_likelihoods(drawn, rows, labels)


if __name__ == "__main__":
    run(figure_answers)
