"""Mark all but the first document of each cluster of near-duplicates, over all shards of all corpora."""

import argparse
import logging
from pathlib import Path

import numpy as np

from cpt.arrays import load_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import load_keep
from cpt.corpus.keep_lists import write_keep_lists
from cpt.corpus.layout import shard_path, shards_of
from cpt.corpus.near_duplicates import first_of_clusters


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
    write_keep_lists(root, "near_deduplicated", shards, keeps, alone, arguments.table)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--corpora", type=json_value, required=True, help="{corpus: number of shards}, in order"
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--table", type=Path, required=True, help="near-duplicates per shard (.csv)")
    run(main, parser)
