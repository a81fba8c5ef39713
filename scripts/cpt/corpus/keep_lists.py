"""The keep-lists of a stage that looks at all corpora at once: one byte per document, one list per shard."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.corpus.documents import text_bytes
from cpt.corpus.shards import names_of
from cpt.files import atomic


def write_keep_lists(
    corpora: dict[str, int],
    documents: Sequence[Path],
    before: list[np.ndarray],
    kept: np.ndarray,
    keep: Sequence[Path],
    table: Path,
) -> None:
    """Write the keep-list of every shard, and a table of what is kept no longer.

    Args:
        corpora: corpus: number of shards; the lists have an entry per shard, in this order.
        documents: the shards' filtered documents.
        before: which documents came into the stage, bool [documents] of each shard.
        kept: which documents of all shards stay, bool; those that didn't come in don't count.
        keep: the files to write.
        table: corpus, shard, documents, what is kept no longer (the column is named after the file), bytes.

    All are renamed into place only when all are written.
    """
    lines = [f"corpus,shard,documents,{table.stem},bytes"]
    ends = np.cumsum([len(each) for each in before])
    shards = zip(names_of(corpora), documents, before, ends, keep, strict=True)
    with ExitStack() as outputs:
        for (corpus, shard), path, had, end, output in shards:
            mine = had & kept[end - len(had) : end]
            with open(outputs.enter_context(atomic(output)), "wb") as file:
                save_array(file, mine)
            gone = had & ~mine
            lines.append(f"{corpus},{shard},{had.sum()},{gone.sum()},{text_bytes(path, gone)}")
        outputs.enter_context(atomic(table)).write_text("\n".join(lines) + "\n", encoding="utf-8")
