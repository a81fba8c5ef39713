"""Batches as a pure function of the step: no loader state, so resuming needs none.

Sample k of a run is row k of the packed array, which is globally shuffled already. With a global batch of B,
step s sees the rows s * B .. (s + 1) * B - 1. Rank r of w takes every w-th of them, starting at index r. A
run that continues another begins at a later row. A run that switches mixtures has two such stages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cpt.arrays import load_array
from cpt.errors import UserError
from cpt.files import read_json


class Batch(NamedTuple):
    """A micro-batch as the model takes it.

    Attributes:
        token_ids: int64 [sequences, length].
        positions: int64 [sequences, length], each token's position in its document; None if documents aren't
            kept apart, so that positions count from the start of the sequence.
        target_weights: float32 [sequences, length - 1], 0 for targets that don't count.
        document_starts: int32 [documents + 1], the start of each document in the concatenated sequences, and
            their end; or None. It holds the same information as positions, without a scan.
    """

    token_ids: np.ndarray
    positions: np.ndarray | None
    target_weights: np.ndarray
    document_starts: np.ndarray | None = None


def on_device(batch: Batch, device: torch.device) -> list[torch.Tensor | None]:
    """Returns the arrays as tensors; copies them to a GPU from pinned memory, while the GPU computes."""
    tensors = [array if array is None else torch.from_numpy(array) for array in batch]
    if device.type == "cuda":
        tensors = [t if t is None else t.pin_memory().to(device, non_blocking=True) for t in tensors]
    return tensors


class PackedSequences:
    """Memory-mapped packed sequences.

    Args:
        folder: the packed mixture.
        document_masking: keep documents apart: positions restart at 0 in each, and its first token isn't a
            target, since nothing in the document predicts it. Padding is never a target, nor is what the
            assistant didn't say in a conversation.

    Attributes:
        ledger: the mixture's ledger.json.
        reference: None; see cpt.train.selection.SelectiveSequences.
        rows: uint16 or uint32 array [sequences, sequence_length], read on demand.
        lengths: uint32 [sequences], tokens before the padding.
        loss_mask: uint8 [sequences, bytes], one bit per token, 1 where it may be a target; None for a mixture
            without conversations.

    Raises UserError if a file's size doesn't fit the ledger.
    """

    reference: dict[str, Any] | None = None

    def __init__(self, folder: Path, document_masking: bool):
        self.ledger: dict[str, Any] = read_json(folder / "ledger.json")
        self.document_masking = document_masking
        shape = (self.ledger["sequences"], self.ledger["sequence_length"])
        self.rows = _mapped(folder / "sequences.bin", np.dtype(self.ledger["dtype"]), shape)
        self.loss_mask: np.ndarray | None = None
        if "loss_mask_sha256" in self.ledger:
            bits = (shape[0], -(-shape[1] // 8))
            self.loss_mask = _mapped(folder / "loss_mask.bin", np.dtype(np.uint8), bits)
        self.lengths = load_array(folder / "lengths.npy", mapped=True)
        self._starts = load_array(folder / "boundaries.npy", mapped=True)
        self._offsets = load_array(folder / "boundary_offsets.npy", mapped=True).astype(np.int64)
        whole = len(self.lengths) == len(self._offsets) - 1 == shape[0]
        if not whole or self._offsets[-1] != len(self._starts):
            raise UserError(
                f"{folder}: lengths.npy or boundaries.npy doesn't fit ledger.json; remove it and pack again"
            )

    def tokens(self, rows: range) -> int:
        """Number of tokens in these consecutive rows, without padding."""
        return int(self.lengths[rows.start : rows.stop].sum(dtype=np.int64))

    def targets_of(self, rows: range) -> np.ndarray:
        """Number of targets that count in the loss, for each of these consecutive rows: int64 [rows]."""
        if self.loss_mask is not None:
            numbers = np.arange(rows.start, rows.stop)
            return np.count_nonzero(self._counted(numbers, self._document_starts(numbers)), axis=1)
        counts = self.lengths[rows.start : rows.stop].astype(np.int64) - 1  # the first token is no target
        if self.document_masking:
            offsets = self._offsets[rows.start : rows.stop + 1]
            inside = self._starts[offsets[0] : offsets[-1]] > 0
            counts -= np.diff(np.concatenate([[0], np.cumsum(inside)])[offsets - offsets[0]])
        return counts

    def targets(self, rows: range) -> int:
        """Number of targets in these consecutive rows that count in the loss."""
        return int(self.targets_of(rows).sum())

    def selected(self, rows: range) -> int:
        """Number of targets in these consecutive rows to train on: all here (cpt.train.selection)."""
        return self.targets(rows)

    def batch(self, numbers: np.ndarray, weights: np.ndarray) -> Batch:
        """Returns the rows with these numbers (int64 [m]); `weights` (float32 [m]) apply to their targets."""
        positions = document_starts = None
        starts = self._document_starts(numbers)
        counted = self._counted(numbers, starts)
        if starts is not None:
            positions = np.arange(self.rows.shape[1]) - np.maximum.accumulate(starts, axis=1)
            document_starts = np.append(np.flatnonzero(positions == 0), positions.size).astype(np.int32)
        ids = self.rows[numbers].astype(np.int64)
        return Batch(ids, positions, weights[:, None] * counted, document_starts)

    def _document_starts(self, numbers: np.ndarray) -> np.ndarray | None:
        """int64 [m, length]: at each document's first token its column, else 0; None without masking."""
        if not self.document_masking:
            return None
        starts = np.zeros((len(numbers), self.rows.shape[1]), dtype=np.int64)
        for row, number in enumerate(numbers):
            inside = self._starts[self._offsets[number] : self._offsets[number + 1]]
            starts[row, inside] = inside
            end = self.lengths[number]
            starts[row, end : end + 1] = end  # otherwise padding would belong to the last document
        return starts

    def _counted(self, numbers: np.ndarray, starts: np.ndarray | None) -> np.ndarray:
        """Which targets count: bool [m, length - 1]; `starts` comes from `_document_starts`."""
        length = self.rows.shape[1]
        counted = np.arange(1, length) < self.lengths[numbers, None]
        if starts is not None:
            counted &= starts[:, 1:] == 0
        if self.loss_mask is not None:
            counted &= np.unpackbits(self.loss_mask[numbers], axis=1, count=length)[:, 1:] == 1
        return counted


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
    """Map a file of packed data, which is read on demand. Raises UserError if its size is wrong."""
    size, expected = path.stat().st_size, shape[0] * shape[1] * dtype.itemsize
    if size != expected:
        raise UserError(
            f"{path}: {size:,} bytes instead of {expected:,} as ledger.json states; remove {path.parent} and "
            "pack again"
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)


def rows_of_step(step: int, plan: dict[str, Any]) -> tuple[int, range]:
    """Find the sequences that the 0-based `step` of a planned run sees.

    Returns (stage, rows): the stage's number in plan["stages"], and row numbers of its mixture. A run's last
    step takes the remaining rows. A switch of mixtures falls between two steps.
    """
    before = step * plan["global_batch"]
    for number, stage in enumerate(plan["stages"]):
        if before < stage["sequences"]:
            first = stage["first_sequence"] + before
            return number, range(first, first + min(plan["global_batch"], stage["sequences"] - before))
        before -= stage["sequences"]
    raise IndexError(f"step {step} of {plan['steps']}")


def micro_batches(
    rows: range, rank: int, world_size: int, micro_batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split one rank's share of a step's rows into micro-batches.

    Yields (row numbers int64 [m], weights float32 [m]) with m <= micro_batch. Every rank yields the same
    number of arrays of the same sizes, as collective operations need. If the rows don't divide evenly, a
    rank's share is filled with repeats of the first row, at weight 0.
    """
    mine = np.asarray(rows[rank::world_size], dtype=np.int64)
    share = -(-len(rows) // world_size)
    weights = np.zeros(share, dtype=np.float32)
    weights[: len(mine)] = 1.0
    padded = np.full(share, rows[0], dtype=np.int64)
    padded[: len(mine)] = mine
    for start in range(0, share, micro_batch):
        yield padded[start : start + micro_batch], weights[start : start + micro_batch]
