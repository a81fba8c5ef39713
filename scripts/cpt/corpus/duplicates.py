"""Finds exact duplicates across all shards of all corpora, out of core (paper 3.2.2)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash

from cpt.corpus.documents import open_parquet
from cpt.corpus.words import with_single_spaces
from cpt.progress import Progress

BATCH = 2**18  # digests read at once

# 128 bits: among a billion documents, two different ones share a hash with probability 1.5e-21.
RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<u8")])


def digest(text: np.ndarray, how: str) -> bytes:
    """The xxh3_128 digest of a text's UTF-8 (uint8): of the text itself (`how` is `none`), or with single
    spaces for white space (`whitespace`).
    """
    return xxhash.xxh3_128_digest(text if how == "none" else with_single_spaces(text))


def first_of_equals(
    documents: Sequence[Path], counts: Sequence[int], partitions: int, folder: Path
) -> np.ndarray:
    """Which documents equal no earlier document of any file: bool [documents].

    `counts` are the documents of each file; `folder` is for the partitions, see `write_partitions`.
    """
    first = np.ones(sum(counts), bool)
    write_partitions(_digests(documents, len(first)), partitions, folder)
    for positions in repeated_positions(folder, partitions):
        first[positions] = False
    return first


def _digests(documents: Sequence[Path], total: int) -> Iterator[bytes]:
    with Progress("reading digests", total, "documents") as progress:
        for path in documents:
            for batch in open_parquet(path).iter_batches(BATCH, columns=["digest"], use_threads=False):
                yield b"".join(batch.column("digest").to_pylist())
                progress.advance(batch.num_rows)


def write_partitions(blocks: Iterable[bytes], partitions: int, folder: Path) -> int:
    """Write a record (digest, position) of each text into the partition of its digest.

    `blocks` hold whole digests. `partitions` divide the range of the digests' upper 32 bits evenly;
    partition p is the file `p`, with records in ascending order of position. Takes about 100 bytes of
    memory per digest of a block. Returns the number of texts.
    """
    count = 0
    for block in blocks:
        halves = np.frombuffer(block, ">u8").reshape(-1, 2)
        records = np.empty(len(halves), RECORD)
        records["high"], records["low"] = halves[:, 0], halves[:, 1]
        records["index"] = np.arange(count, count + len(halves))
        count += len(halves)
        partition = (records["high"] >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)
        # As small a type as possible: numpy sorts 16-bit integers by radix.
        partition = partition.astype(np.min_scalar_type(partitions - 1))
        records = records[np.argsort(partition, kind="stable")]
        edges = np.concatenate([[0], np.cumsum(np.bincount(partition, minlength=partitions))])
        for number in np.flatnonzero(np.diff(edges)):
            with open(folder / str(number), "ab") as file:
                file.write(records[edges[number] : edges[number + 1]])
    return count


def repeated_positions(folder: Path, partitions: int) -> Iterator[np.ndarray]:
    """Yields for each partition the positions (uint64) of texts whose digest occurs at an earlier position.

    Memory is bounded by the largest partition: about 72 bytes for each of its texts.
    """
    for number in range(partitions):
        path = folder / str(number)
        if path.exists():
            records = np.fromfile(path, RECORD)
            order = np.argsort(records["high"], kind="stable")  # equal digests stay in order of position
            high, low = records["high"][order], records["low"][order]
            same = high[1:] == high[:-1]
            if np.any(same & (low[1:] != low[:-1])):  # upper 64 bits collide: sort by all 128
                order = np.lexsort((records["index"], records["low"], records["high"]))
                high, low = records["high"][order], records["low"][order]
                same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
            yield records["index"][order[1:][same]]
