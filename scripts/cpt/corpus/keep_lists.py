"""Keep-lists of stages that read all corpora at once: one list per shard, one byte per document."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.corpus.documents import text_bytes
from cpt.corpus.shards import names_of
from cpt.files import atomic, one_for_each


def keep_list(folder: Path, shard: str) -> Path:
    """The path of a shard's keep-list in its corpus's folder."""
    return folder / f"{shard}.keep.npy"


def keep_lists(folders: Sequence[Path], corpora: dict[str, int]) -> list[Path]:
    """The keep-lists of all shards of `corpora` {corpus: number of shards}; each corpus has a folder."""
    folder = dict(one_for_each(corpora, folders))
    return [keep_list(folder[corpus], shard) for corpus, shard in names_of(corpora)]


def write_keep_lists(
    corpora: dict[str, int],
    documents: Sequence[Path],
    before: list[np.ndarray],
    kept: np.ndarray,
    keep: Sequence[Path],
    table: Path,
) -> None:
    """Write the keep-list of every shard, and a table of what this stage drops.

    Args:
        corpora: {corpus: number of shards}; the lists have an entry per shard, in this order.
        documents: the shards' filtered documents.
        before: which documents enter the stage, bool [documents] of each shard.
        kept: which documents of all shards stay, bool; values of documents not in `before` are ignored.
        keep: the folders to write, one for each corpus.
        table: corpus, shard, documents, those dropped (the column is named after the file), bytes of these.

    Files and folders are renamed into place only when all are written.
    """
    lines = [f"corpus,shard,documents,{table.stem},bytes"]
    ends = np.cumsum([len(each) for each in before])
    with ExitStack() as outputs:
        folders = [outputs.enter_context(atomic(folder)) for folder in keep]
        for folder in folders:
            folder.mkdir()
        shards = zip(names_of(corpora), documents, before, ends, keep_lists(folders, corpora), strict=True)
        for (corpus, shard), path, had, end, output in shards:
            mine = had & kept[end - len(had) : end]
            with open(output, "wb") as file:
                save_array(file, mine)
            gone = had & ~mine
            lines.append(f"{corpus},{shard},{had.sum()},{gone.sum()},{text_bytes(path, gone)}")
        outputs.enter_context(atomic(table)).write_text("\n".join(lines) + "\n", encoding="utf-8")
