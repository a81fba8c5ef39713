import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpt.arrays import write_array
from cpt.command import run
from cpt.config_sections import HeldOut
from cpt.corpus.documents import load_keep, text_bytes
from cpt.corpus.overlap import NGRAM, HeldOutText, documents_of, table_of
from cpt.corpus.shards import names_of
from cpt.files import write_json, write_text
from cpt.progress import NOTICE, Progress
from cpt.provenance import provenance


def held_out_overlap(
    corpora: dict[str, int],
    documents: Sequence[Path],
    keep: Sequence[Path],
    splits: dict[str, HeldOut],
    measured: Sequence[str],
    trained: Sequence[str],
    table: Path,
    report: Path,
    kept: Sequence[Path] = (),
) -> None:
    """Measure how much held-out text is in training text; if configured, drop training documents with it.

    Args:
        corpora: number of shards by corpus; lists of files have all shards in this order.
        documents: the filtered documents (.parquet).
        keep: which of them are neither duplicates nor dropped as contaminated (.npy).
        splits: the config's `held_out` for each corpus.
        measured: corpora whose held-out text is scored.
        trained: corpora that are trained on.
        table: the held-out documents, with the share of each that is in training text (.csv), to write.
        report: the share of all held-out text, and what was dropped (.json), to write.
        kept: which documents stay, if any may be dropped (.npy), to write.
    """
    shards = list(zip(names_of(corpora), documents, keep, strict=True))
    keeps = {keep_path: load_keep(keep_path, documents_path) for _, documents_path, keep_path in shards}
    total = int(sum(each.sum() for each in keeps.values()))
    held_out = HeldOutText()
    with Progress("looking for held-out documents", total, "documents") as progress:
        for (corpus, _), path, lists in shards:
            for document in documents_of(path, keeps[lists], splits[corpus]) if corpus in measured else ():
                if document.held_out:
                    held_out.add(corpus, document)
                progress.advance()
    held_out.index()
    dropped = {corpus: {"documents": 0, "bytes": 0} for corpus in corpora}
    with Progress("comparing with held-out text", total, "documents") as progress:
        for number, ((corpus, _), path, lists) in enumerate(shards):
            stays, limit = keeps[lists].copy(), splits[corpus].drop_overlap
            for document in documents_of(path, keeps[lists], splits[corpus]) if corpus in trained else ():
                if not document.held_out:
                    stays[document.position] = held_out.compare(document, limit)
                progress.advance()
            gone = keeps[lists] & ~stays
            dropped[corpus]["documents"] += int(gone.sum())
            dropped[corpus]["bytes"] += text_bytes(path, gone)
            if kept:
                write_array(kept[number], stays)
    write_text(table, table_of(held_out))
    shared, ngrams = int(held_out.shared().sum()), int(held_out.sizes.sum())
    facts = {"held_out_documents": len(held_out.names), "ngram": NGRAM, "ngrams": ngrams, "shared": shared}
    settings = {"splits": splits, "measured": measured, "trained": trained}
    facts |= {"corpora": held_out.counts(measured), "dropped": dropped}
    write_json(report, {**facts, "provenance": provenance(settings)})
    if shared:
        worst = int(np.argmax(held_out.closest))
        logging.log(
            NOTICE,
            "%.1f %% of the %d-grams of held-out text are in training text as well; most of them of %s, of "
            "which %.0f %% are in %s (%s)",
            100 * shared / ngrams,
            NGRAM,
            held_out.names[worst][1],
            100 * held_out.closest[worst],
            held_out.closest_id[worst],
            table,
        )


if __name__ == "__main__":
    run(held_out_overlap)
