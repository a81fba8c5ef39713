import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpt.command import run
from cpt.corpus.documents import open_parquet
from cpt.corpus.drops import read_examples, read_tables, warnings_of
from cpt.corpus.duplicates import first_of_equals
from cpt.corpus.keep_lists import write_keep_lists
from cpt.corpus.shards import corpus_files
from cpt.files import scratch


def deduplicate(
    corpora: dict[str, int],
    documents: Sequence[Path],
    partitions: int,
    keep: Sequence[Path],
    table: Path,
    drops: Sequence[Path] = (),
    examples: Sequence[Path] = (),
    warn_share: float = 1.0,
) -> None:
    """Mark all but the first of identical documents, over all shards of all corpora (paper 3.2.2).

    As the first stage that sees whole corpora, it stops if the filters left nothing of a corpus, and warns
    if a rule dropped much of one.

    Args:
        corpora: number of shards by corpus; lists of files have all shards in this order.
        documents: the filtered documents (.parquet).
        partitions: the config's `deduplicate.partitions`.
        keep: a folder for each corpus, to write: which documents of each shard aren't duplicates (.npy).
        table: duplicates per shard (.csv), to write.
        drops: counts per rule of the filters (.csv).
        examples: documents that the filters dropped (.jsonl).
        warn_share: the config's `filters.warn_share`.
    """
    for corpus, (tables, dropped) in corpus_files(corpora, drops, examples).items() if drops else ():
        shown = [entry for path in dropped for entry in read_examples(path)]
        for line in warnings_of(corpus, read_tables(tables), shown, warn_share):
            logging.warning("%s", line)
    counts = [open_parquet(path, ["digest", "bytes"]).metadata.num_rows for path in documents]
    with scratch(table) as records:
        first = first_of_equals(documents, counts, partitions, records)
    everything = [np.ones(count, bool) for count in counts]
    write_keep_lists(corpora, documents, everything, first, keep, table)


if __name__ == "__main__":
    run(deduplicate)
