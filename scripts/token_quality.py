from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report import style
from cpt.report.token_quality import draw_quality, read_bins, read_script_bounds


def token_quality(quality: Path, thresholds: dict[str, float], figure: Sequence[Path]) -> None:
    """Draw how the token-level quality measures are spread over the documents (paper section 3.2.3).

    Args:
        quality: corpora/token_quality.csv.
        thresholds: the values of the config's section `filters.token_quality`.
        figure: files to write, in the formats of their suffixes.
    """
    with style.figure(3.8, figure) as drawn:
        draw_quality(drawn, read_bins(quality), thresholds, read_script_bounds(quality))


if __name__ == "__main__":
    run(token_quality)
