"""Exact duplicates over all shards of all corpora, out of core (paper 3.2.2)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

# 128 bits: among a billion documents, two different ones share a hash with probability 1.5e-21.
RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<u8")])
BUFFERED = 2**20  # records


def normalized(text: str, how: str) -> str:
    """What is hashed: the text itself (`none`), or its words with one space between (`whitespace`)."""
    return text if how == "none" else " ".join(text.split())


def write_partitions(texts: Iterable[str], how: str, partitions: int, folder: Path) -> int:
    """Write a record (hash, position) of each text into the partition that its hash names.

    `partitions` divide the range of the hash's upper 32 bits evenly; partition p is the file `p`. Holds
    `BUFFERED` records in memory. Returns the number of texts.
    """
    buffer: list[bytes] = []
    count = 0
    for text in texts:
        buffer.append(xxhash.xxh3_128_digest(normalized(text, how).encode()))
        count += 1
        if len(buffer) == BUFFERED:
            _append(buffer, count - len(buffer), partitions, folder)
            buffer = []
    _append(buffer, count - len(buffer), partitions, folder)
    return count


def _append(digests: list[bytes], first: int, partitions: int, folder: Path) -> None:
    halves = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2)
    records = np.empty(len(halves), RECORD)
    records["high"], records["low"] = halves[:, 0], halves[:, 1]
    records["index"] = np.arange(first, first + len(halves))
    partition = (records["high"] >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)
    order = np.argsort(partition, kind="stable")
    edges = np.searchsorted(partition[order], np.arange(partitions + 1, dtype=np.uint64))
    for number in np.flatnonzero(np.diff(edges)):
        with open(folder / str(number), "ab") as file:
            records[order[edges[number] : edges[number + 1]]].tofile(file)


def repeated_positions(folder: Path, partitions: int) -> Iterator[np.ndarray]:
    """For each partition the positions (uint64) of the texts whose hash occurred at an earlier position.

    Memory is bounded by the largest partition: about 24 bytes for each of its texts, times three.
    """
    for number in range(partitions):
        path = folder / str(number)
        if path.exists():
            records = np.fromfile(path, RECORD)
            records = records[np.lexsort((records["index"], records["low"], records["high"]))]
            same = (records["high"][1:] == records["high"][:-1]) & (records["low"][1:] == records["low"][:-1])
            yield records["index"][1:][same]
