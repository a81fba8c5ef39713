from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.preregistration import read_registered, registered_label
from cpt.report import style
from cpt.report.robustness import draw_grid, panels_of
from cpt.report.scores import read_scores


def robustness(
    scores: Path,
    grid: dict[str, list[float]],
    corpora: list[str],
    figure: Sequence[Path],
    registered: Sequence[Path] = (),
) -> None:
    """Draw what each run of a grid of learning rates and data orders changed, with intervals.

    Args:
        scores: scores.csv.
        grid: peak learning rate and seed of the data order, by run.
        corpora: corpora measured in bits per byte: the domain, and general text if there is any.
        figure: files to write, in the formats of their suffixes.
        registered: preregistration.json, if the plan was registered.
    """
    points = {name: (rate, int(order)) for name, (rate, order) in grid.items()}
    note = registered_label(read_registered(registered[0]) if registered else None)
    with style.figure(3.4, figure) as drawn:
        draw_grid(drawn, panels_of(read_scores(scores), points, corpora), points, note)


if __name__ == "__main__":
    run(robustness)
