from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.training_figures import draw_losses, read_losses


def figure1(metrics: Sequence[Path], runs: dict[str, int], figure: Sequence[Path]) -> None:
    """Draw Figure 1: the training loss of every run over its steps (paper section 4.3.1).

    Args:
        metrics: metrics.csv of each run.
        runs: training tokens of each run, in the same order.
        figure: files to write, in the formats of their suffixes.
    """
    with style.figure(3.0, figure) as drawn:
        draw_losses(drawn, [read_losses(path) for path in metrics], runs)


if __name__ == "__main__":
    run(figure1)
