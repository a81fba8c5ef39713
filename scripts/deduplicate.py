"""Mark all but the first of identical documents, over all shards of all corpora (paper 3.2.2)."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import open_parquet, text_bytes
from cpt.corpus.duplicates import repeated_positions, write_partitions
from cpt.corpus.layout import shard_path, shards_of
from cpt.files import atomic, scratch
from cpt.progress import Progress

BATCH = 2**18  # digests read at once


def digests(paths: list[Path], total: int) -> Iterator[bytes]:
    """The digests of all documents, in the order in which the first of equals wins."""
    with Progress("reading digests", total, "documents") as progress:
        for path in paths:
            for batch in open_parquet(path).iter_batches(BATCH, columns=["digest"], use_threads=False):
                yield b"".join(batch.column("digest").to_pylist())
                progress.advance(batch.num_rows)


def main(arguments: argparse.Namespace) -> None:
    settings, root = arguments.settings, arguments.root
    shards = list(shards_of(arguments.corpora))
    paths = [shard_path(root, corpus, "filtered", shard, ".parquet") for corpus, shard in shards]
    counts = [open_parquet(path, ["digest", "bytes"]).metadata.num_rows for path in paths]
    ends = np.cumsum(counts)
    with scratch(arguments.table) as records:
        write_partitions(digests(paths, int(ends[-1])), settings["partitions"], records)
        keep = np.ones(int(ends[-1]), bool)
        for positions in repeated_positions(records, settings["partitions"]):
            keep[positions] = False
    # One byte per document and one list per shard; renamed into place only when all are written.
    with ExitStack() as outputs:
        lines = ["corpus,shard,documents,duplicates,bytes"]
        for (corpus, shard), source, end, count in zip(shards, paths, ends, counts, strict=True):
            mine = keep[end - count : end]
            path = shard_path(root, corpus, "deduplicated", shard, ".keep.npy")
            with open(outputs.enter_context(atomic(path)), "wb") as file:
                save_array(file, mine)
            lines.append(f"{corpus},{shard},{count},{count - int(mine.sum())},{text_bytes(source, ~mine)}")
        outputs.enter_context(atomic(arguments.table)).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--corpora", type=json_value, required=True, help="{corpus: number of shards}, in order"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `deduplicate`")
    parser.add_argument("--table", type=Path, required=True, help="duplicates per shard (.csv)")
    run(main, parser)
