"""Mark all but the first document of each cluster of near-duplicates, over all shards of all corpora."""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cpt.arrays import load_array, save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import load_keep, text_bytes
from cpt.corpus.layout import shard_path, shards_of
from cpt.corpus.near_duplicates import first_of_clusters
from cpt.files import atomic


def main(arguments: argparse.Namespace) -> None:
    root, shards = arguments.root, list(shards_of(arguments.corpora))
    keeps = [
        load_keep(
            shard_path(root, corpus, "deduplicated", shard, ".keep.npy"),
            shard_path(root, corpus, "filtered", shard, ".parquet"),
        )
        for corpus, shard in shards
    ]
    hashes = [
        load_array(shard_path(root, corpus, "minhash", shard, ".npy"), mapped=True)
        for corpus, shard in shards
    ]
    present = np.concatenate(keeps)
    first = first_of_clusters(hashes, present)
    alone = first == np.arange(len(first))
    sizes = 1 + np.unique(first[~alone], return_counts=True)[1]
    logging.info(
        "%s clusters of near-duplicates; the largest has %s documents",
        *(f"{number:,}" for number in (len(sizes), sizes.max(initial=0))),
    )
    ends = np.cumsum([len(keep) for keep in keeps])
    # Renamed into place only when all are written.
    with ExitStack() as outputs:
        lines = ["corpus,shard,documents,near_duplicates,bytes"]
        for (corpus, shard), keep, end in zip(shards, keeps, ends, strict=True):
            mine = keep & alone[end - len(keep) : end]
            path = shard_path(root, corpus, "near_deduplicated", shard, ".keep.npy")
            with open(outputs.enter_context(atomic(path)), "wb") as file:
                save_array(file, mine)
            source = shard_path(root, corpus, "filtered", shard, ".parquet")
            size = text_bytes(source, keep & ~mine)
            lines.append(f"{corpus},{shard},{keep.sum()},{keep.sum() - mine.sum()},{size}")
        outputs.enter_context(atomic(arguments.table)).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--corpora", type=json_value, required=True, help="{corpus: number of shards}, in order"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--table", type=Path, required=True, help="near-duplicates per shard (.csv)")
    run(main, parser)
