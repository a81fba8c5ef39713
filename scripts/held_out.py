from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from cpt.command import run
from cpt.corpus.documents import BATCH_ROWS
from cpt.corpus.split import gathered
from cpt.files import atomic


def held_out(corpus: str, shards: Sequence[Path], documents: Path) -> None:
    """Gather a corpus's held-out documents from its shards; any prefix of them is a sample across groups.

    Args:
        corpus: the corpus's name in the config.
        shards: held-out documents of each shard (.parquet).
        documents: all of them (.parquet), to write.
    """
    table = gathered(shards, corpus)
    with atomic(documents) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", row_group_size=BATCH_ROWS, write_page_checksum=True
        )


if __name__ == "__main__":
    run(held_out)
