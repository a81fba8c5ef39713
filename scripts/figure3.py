from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import one_for_each
from cpt.report import style
from cpt.report.training_figures import draw_forgetting, read_curves, read_points


def figure3(
    held_out_losses: Sequence[Path],
    origins: dict[str, str],
    corpora: list[str],
    merges: dict[str, dict[str, float]],
    figure: Sequence[Path],
    bits: Sequence[Path] = (),
) -> None:
    """Draw Figure 3: domain and general bits per byte along training, and one over the other (forgetting).

    Args:
        held_out_losses: held_out.csv of each run.
        origins: for each run, in the same order, the one at the beginning of its chain of `start_from`.
        corpora: the domain, then the general corpus if there is one.
        merges: coefficients of each sum of models.
        figure: files to write, in the formats of their suffixes.
        bits: bits per byte of the base model, then of each sum of models, for each corpus.
    """
    curves = {run: read_curves(path) for run, path in one_for_each(origins, held_out_losses)}
    points = read_points(bits, merges, corpora)
    with style.figure(3.6 if len(corpora) > 1 else 2.6, figure) as drawn:
        draw_forgetting(drawn, curves, origins, corpora, points)


if __name__ == "__main__":
    run(figure3)
