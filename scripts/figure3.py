from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cpt.command import run
from cpt.files import one_for_each
from cpt.report import style
from cpt.report.forgetting import curves_of, draw_forgetting, read_measured, read_points


def figure3(
    held_out_losses: Sequence[Path],
    document_losses: Sequence[Path],
    held_out: Sequence[Path],
    origins: dict[str, str],
    corpora: list[str],
    merges: dict[str, dict[str, float]],
    figure: Sequence[Path],
    losses: Sequence[Path] = (),
    seed: int = 0,
) -> None:
    """Draw Figure 3: domain and general bits per byte along training, and against each other (forgetting).

    Args:
        held_out_losses: held_out.csv of each run.
        document_losses: held_out_documents.csv of each run.
        held_out: held-out tokens (.npz) of all runs and corpora, in the order runs x corpora.
        origins: for each run, in the same order, the first run of its chain of `start_from`.
        corpora: the domain, then the general corpus if there is one.
        merges: coefficients of each sum of models.
        figure: files to write, in the formats of their suffixes.
        losses: bits_per_byte.{corpus}.documents.csv of the base model, then of each sum of models, for each
            corpus.
        seed: seed of the resampling.
    """
    tokens = dict(one_for_each(product(origins, corpora), held_out))
    by_document = dict(one_for_each(origins, document_losses))
    measured = {
        run: read_measured(along, by_document[run], {corpus: tokens[run, corpus] for corpus in corpora})
        for run, along in one_for_each(origins, held_out_losses)
    }
    curves = curves_of(measured, origins, seed)
    points = read_points(losses, merges, corpora, seed)
    with style.figure(3.8 if len(corpora) > 1 else 2.8, figure) as drawn:
        draw_forgetting(drawn, curves, corpora, points)


if __name__ == "__main__":
    run(figure3)
