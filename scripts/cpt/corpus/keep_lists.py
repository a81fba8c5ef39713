"""The keep-lists of a stage that looks at all corpora at once: one byte per document, one list per shard."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.corpus.documents import text_bytes
from cpt.corpus.layout import shard_path
from cpt.files import atomic


def write_keep_lists(
    root: Path,
    stage: str,
    shards: list[tuple[str, str]],
    keeps: list[np.ndarray],
    kept: np.ndarray,
    table: Path,
) -> None:
    """Write `{shard}.keep.npy` of every shard, and a table of what is kept no longer.

    Args:
        root: the folder of the corpora.
        stage: the folder of the keep-lists in each corpus.
        shards: (corpus, shard), in order.
        keeps: which documents came into the stage, bool [documents] of each shard.
        kept: which documents of all shards stay, bool; those that didn't come in are left out.
        table: corpus, shard, documents, what is kept no longer (the column is named after the file), bytes.

    All are renamed into place only when all are written.
    """
    lines = [f"corpus,shard,documents,{table.stem},bytes"]
    ends = np.cumsum([len(keep) for keep in keeps])
    with ExitStack() as outputs:
        for (corpus, shard), keep, end in zip(shards, keeps, ends, strict=True):
            mine = keep & kept[end - len(keep) : end]
            path = shard_path(root, corpus, stage, shard, ".keep.npy")
            with open(outputs.enter_context(atomic(path)), "wb") as file:
                save_array(file, mine)
            gone = keep & ~mine
            size = text_bytes(shard_path(root, corpus, "filtered", shard, ".parquet"), gone)
            lines.append(f"{corpus},{shard},{keep.sum()},{gone.sum()},{size}")
        outputs.enter_context(atomic(table)).write_text("\n".join(lines) + "\n", encoding="utf-8")
