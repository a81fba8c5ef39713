from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.training_figures import draw_schedules, read_schedule


def schedules(schedules: Sequence[Path], runs: dict[str, int], figure: Sequence[Path]) -> None:
    """Draw the learning rates of all runs as planned, before any of them trains.

    Args:
        schedules: schedule.csv of each run.
        runs: training tokens of each run, in the same order.
        figure: files to write, in the formats of their suffixes.
    """
    with style.figure(2.6, figure) as drawn:
        draw_schedules(drawn, [read_schedule(path) for path in schedules], runs)


if __name__ == "__main__":
    run(schedules)
