from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpt.command import run
from cpt.corpus.documents import open_parquet
from cpt.corpus.duplicates import first_of_equals
from cpt.corpus.keep_lists import write_keep_lists
from cpt.files import scratch


def deduplicate(
    corpora: dict[str, int], documents: Sequence[Path], partitions: int, keep: Sequence[Path], table: Path
) -> None:
    """Mark all but the first of identical documents, over all shards of all corpora (paper 3.2.2).

    Args:
        corpora: corpus: number of shards; lists of files have all shards, in this order.
        documents: the filtered documents (.parquet).
        partitions: the config's `deduplicate.partitions`.
        keep: a folder for each corpus, to write: which documents of each shard are no duplicates (.npy).
        table: duplicates per shard (.csv), to write.
    """
    counts = [open_parquet(path, ["digest", "bytes"]).metadata.num_rows for path in documents]
    with scratch(table) as records:
        first = first_of_equals(documents, counts, partitions, records)
    everything = [np.ones(count, bool) for count in counts]
    write_keep_lists(corpora, documents, everything, first, keep, table)


if __name__ == "__main__":
    run(deduplicate)
