"""Compute the MinHash signatures of one shard's documents, by which near-duplicates are found."""

import argparse
from pathlib import Path

import numpy as np

from cpt.arrays import save_array
from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import open_parquet, read_rows
from cpt.corpus.near_duplicates import band_hashes
from cpt.files import atomic
from cpt.progress import progress_over


def main(arguments: argparse.Namespace) -> None:
    settings = arguments.settings
    hashes = np.empty((settings["bands"], open_parquet(arguments.input).metadata.num_rows), np.uint64)
    rows = progress_over(read_rows(arguments.input, ["text"]), "minhash", hashes.shape[1], "documents")
    for position, bands in enumerate(band_hashes((text.decode() for (text,) in rows), **settings)):
        hashes[:, position] = bands
    with atomic(arguments.output) as temporary, open(temporary, "wb") as file:
        save_array(file, hashes)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="filtered documents (.parquet)")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `deduplicate.near`")
    parser.add_argument("--output", type=Path, required=True, help="a hash per band and document (.npy)")
    run(main, parser)
