import logging
from collections.abc import Sequence
from pathlib import Path

from cpt.arrays import write_array
from cpt.command import run
from cpt.corpus.similarity import LEAST_AUC, SAMPLE, learn, sample, texts_of
from cpt.files import write_json
from cpt.progress import NOTICE
from cpt.provenance import provenance


def similarity_model(
    corpus: str,
    to: str,
    own: Sequence[Path],
    general: Sequence[Path],
    own_column: str,
    general_column: str,
    model: Path,
    report: Path,
) -> None:
    """Train a classifier that tells a corpus's documents from those that they should be similar to.

    Args:
        corpus: the corpus to be filtered.
        to: the corpus that its documents should be similar to.
        own: raw shards of `to` (.parquet).
        general: raw shards of `corpus` (.parquet).
        own_column: the column of `own` that holds the text.
        general_column: the column of `general` that holds the text.
        model: the classifier's weights (.npy), to write.
        report: how well it tells held-out documents apart (.json), to write.
    """
    weights, facts = learn(sample(texts_of(own, own_column)), sample(texts_of(general, general_column)))
    write_array(model, weights)
    settings = {"corpus": corpus, "to": to, "sample": SAMPLE}
    write_json(report, {**settings, **facts, "provenance": provenance(settings)})
    for minimum, kept in facts["kept"].items():
        shares = (100 * kept["own"], to, 100 * kept["general"], corpus)
        logging.info("minimum %s keeps %.1f %% of %s and %.1f %% of %s", minimum, *shares)
    counts = (facts["held_out"]["own"], to, facts["held_out"]["general"], corpus)
    logging.log(
        NOTICE,
        "similarity: AUC %.3f, accuracy %.3f (held-out documents: %d of %s, %d of %s)",
        facts["auc"],
        facts["accuracy"],
        *counts,
    )
    if facts["auc"] < LEAST_AUC:
        logging.warning(
            "%s and %s have too similar words (AUC %.3f): corpora.%s.where.similarity drops "
            "documents nearly at random; remove it, or name another corpus in `to`",
            corpus,
            to,
            facts["auc"],
            corpus,
        )


if __name__ == "__main__":
    run(similarity_model)
