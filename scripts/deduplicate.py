"""Mark all but the first of identical documents, over all shards of all corpora (paper 3.2.2)."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import open_parquet
from cpt.corpus.duplicates import repeated_positions, write_partitions
from cpt.corpus.keep_lists import write_keep_lists
from cpt.corpus.layout import shard_path, shards_of
from cpt.files import scratch
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
    everything = [np.ones(count, bool) for count in counts]
    write_keep_lists(root, "deduplicated", shards, everything, keep, arguments.table)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--corpora", type=json_value, required=True, help="{corpus: number of shards}, in order"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `deduplicate`")
    parser.add_argument("--table", type=Path, required=True, help="duplicates per shard (.csv)")
    run(main, parser)
