"""Batches as a pure function of the step: no loader state, so resuming needs none.

Sample k of a run is row k of the packed array, which is globally shuffled already. Step s sees the
rows s * B .. (s + 1) * B - 1 of a global batch of B; rank r of w takes every w-th of them, from r on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cpt.errors import UserError
from cpt.files import read_json


class PackedSequences:
    """Memory-mapped packed sequences.

    Attributes:
        ledger: the mixture's ledger.json.
        rows: uint16 or uint32 array [sequences, sequence_length], read on demand.

    Raises UserError if the file's size doesn't fit the ledger.
    """

    def __init__(self, folder: Path):
        self.ledger: dict[str, Any] = read_json(folder / "ledger.json")
        path = folder / "sequences.bin"
        dtype = np.dtype(self.ledger["dtype"])
        shape = (self.ledger["sequences"], self.ledger["sequence_length"])
        expected = shape[0] * shape[1] * dtype.itemsize
        if path.stat().st_size != expected:
            raise UserError(
                f"{path}: {path.stat().st_size:,} bytes instead of {expected:,} as ledger.json states; "
                f"remove {folder} and pack again"
            )
        self.rows = np.memmap(path, dtype=dtype, mode="r", shape=shape)


def rows_of_step(step: int, global_batch: int, sequences: int) -> range:
    """Row numbers of the 0-based `step`; the last step of a run takes what is left."""
    return range(step * global_batch, min((step + 1) * global_batch, sequences))


def micro_batches(
    rows: range, rank: int, world_size: int, micro_batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split a step's rows for one rank.

    Yields (row numbers int64 [m], weights float32 [m]) with m <= micro_batch. Every rank yields the
    same number of arrays of the same sizes, as collective operations need; where the rows don't come
    out even, a rank's share is filled with repeated rows of weight 0.
    """
    mine = np.asarray(rows[rank::world_size], dtype=np.int64)
    share = -(-len(rows) // world_size)
    weights = np.zeros(share, dtype=np.float32)
    weights[: len(mine)] = 1.0
    padded = np.full(share, rows[0], dtype=np.int64)
    padded[: len(mine)] = mine
    for start in range(0, share, micro_batch):
        yield padded[start : start + micro_batch], weights[start : start + micro_batch]
