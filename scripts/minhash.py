from pathlib import Path

import numpy as np

from cpt.arrays import write_array
from cpt.command import run
from cpt.config_sections import NearDuplicates
from cpt.corpus.documents import open_parquet, read_rows
from cpt.corpus.near_duplicates import band_hashes
from cpt.progress import progress_over


def minhash(documents: Path, near: NearDuplicates, signatures: Path) -> None:
    """Compute the MinHash signatures of one shard's documents, by which near-duplicates are found.

    Args:
        documents: the filtered documents (.parquet).
        near: the config's `deduplicate.near`.
        signatures: a hash per band and document (.npy), to write.
    """
    hashes = np.empty((near.bands, open_parquet(documents).metadata.num_rows), np.uint64)
    rows = progress_over(read_rows(documents, ["text"]), "minhash", hashes.shape[1], "documents")
    for position, bands in enumerate(band_hashes((text.decode() for (text,) in rows), near)):
        hashes[:, position] = bands
    write_array(signatures, hashes)


if __name__ == "__main__":
    run(minhash)
