import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpt.arrays import load_array
from cpt.command import run
from cpt.config_sections import NearDuplicates
from cpt.corpus.documents import load_keep, read_rows
from cpt.corpus.keep_lists import keep_lists, write_keep_lists
from cpt.corpus.near_duplicates import contained_in_another, first_of_clusters
from cpt.files import one_for_each


def near_duplicates(
    corpora: dict[str, int],
    documents: Sequence[Path],
    unique: Sequence[Path],
    signatures: Sequence[Path],
    keep: Sequence[Path],
    table: Path,
    near: NearDuplicates | None = None,
) -> None:
    """Mark all but the first document of each cluster of near-duplicates, over all shards of all corpora.

    With `containment`, also mark documents that are contained in a longer document that stays.

    Args:
        corpora: number of shards by corpus; lists of files have all shards in this order.
        documents: the filtered documents (.parquet).
        unique: a folder for each corpus: which of them aren't exact duplicates (.npy).
        signatures: their MinHash signatures (.npy).
        keep: a folder for each corpus, to write: which documents aren't near-duplicates either (.npy).
        table: near-duplicates per shard (.csv), to write.
        near: the config's `deduplicate.near`; None: no containment.
    """
    lists = one_for_each(keep_lists(unique, corpora), documents)
    before = [load_keep(keep_path, documents_path) for keep_path, documents_path in lists]
    hashes = [load_array(path, mapped=True) for path in signatures]
    first = first_of_clusters(hashes, np.concatenate(before))
    alone = first == np.arange(len(first))
    sizes = 1 + np.unique(first[~alone], return_counts=True)[1]
    logging.info(
        "%s clusters of near-duplicates; the largest has %s documents",
        f"{len(sizes):,}",
        f"{sizes.max(initial=0):,}",
    )
    if near and near.containment:
        left = np.concatenate(before) & alone
        rows = (row for path in documents for row in read_rows(path, ["text"]))
        texts = (text.decode() if stays else None for (text,), stays in zip(rows, left, strict=True))
        contained = contained_in_another(texts, near)
        logging.info("%s documents are contained in longer ones", f"{contained.sum():,}")
        alone &= ~contained
    write_keep_lists(corpora, documents, before, alone, keep, table)


if __name__ == "__main__":
    run(near_duplicates)
