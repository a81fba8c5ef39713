from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.data import read_steps
from cpt.report.waterfall import draw_waterfall, height


def figure6(statistics: Path, figure: Sequence[Path]) -> None:
    """Draw Figure 6: what each stage of the data pipeline leaves of every corpus (paper section 3.2).

    Args:
        statistics: corpora/statistics.csv.
        figure: files to write, in the formats of their suffixes.
    """
    corpora = read_steps(statistics)
    with style.figure(height(corpora), figure) as drawn:
        draw_waterfall(drawn, corpora)


if __name__ == "__main__":
    run(figure6)
