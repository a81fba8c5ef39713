from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.score_figures import draw_changes
from cpt.report.scores import read_published, read_scores


def figure2(
    scores: Path,
    runs: dict[str, int],
    groups: dict[str, list[str]],
    seed: int,
    figure: Sequence[Path],
    published: Path | None = None,
) -> None:
    """Draw Figure 2: change of the groups of benchmarks over training tokens (paper section 4.3.2).

    Args:
        scores: scores.csv.
        runs: training tokens of each run.
        groups: the tasks of each group.
        seed: seed of the bootstrap.
        figure: files to write, in the formats of their suffixes.
        published: the paper's Table 1 as CSV; None for an experiment that isn't the paper's.
    """
    paper = read_published(published) if published else {}
    with style.figure(2.9, figure) as drawn:
        draw_changes(drawn, read_scores(scores), groups, runs, paper, seed)


if __name__ == "__main__":
    run(figure2)
