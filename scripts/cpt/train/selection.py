"""Selective language modelling: train on the targets that have most left to learn (Lin et al. 2024, Rho-1).

The excess loss of a target is the current model's loss on it less a reference model's (section 2.2). Training
uses a share of each sequence's targets: those with the highest excess.
The paper ranks the targets of a batch. Here they are ranked within each sequence, so the choice depends on
neither micro-batches nor processes, and the number of chosen targets is known beforehand.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpt.arrays import load_array
from cpt.errors import UserError
from cpt.files import read_json
from cpt.train.batches import PackedSequences


def quotas(targets: np.ndarray, share: float) -> np.ndarray:
    """How many targets to train on, out of each number of targets (int64 [n]): the share, rounded up."""
    exact = Fraction(str(share))  # as written: 0.07 of 100 is 7, but 8 for the float
    return -(-targets * exact.numerator // exact.denominator)


class SelectiveSequences(PackedSequences):
    """Packed sequences with the reference model's losses, so that a part of their targets can be chosen.

    Args:
        folder, document_masking: see PackedSequences.
        losses: folder that scripts/reference_losses.py wrote for this mixture.
        share: of each sequence's targets to train on.

    Attributes:
        reference: the losses' reference.json.
        reference_losses: float16 [sequences, sequence_length - 1] in nats, read on demand.

    Raises UserError if the losses are of another mixture, or were computed with another document masking.
    """

    def __init__(self, folder: Path, document_masking: bool, losses: Path, share: float):
        super().__init__(folder, document_masking)
        self.share = share
        self.reference: dict[str, Any] = read_json(losses / "reference.json")
        for name, expected in (
            ("sequences_sha256", self.ledger["sequences_sha256"]),
            ("document_masking", document_masking),
        ):
            if self.reference[name] != expected:
                raise UserError(
                    f"{losses}: the reference's losses don't belong to {folder} ({name}: "
                    f"{self.reference[name]} instead of {expected}); remove {losses} and run again"
                )
        self.reference_losses = load_array(losses / "losses.npy", mapped=True)
        if self.reference_losses.shape != (self.rows.shape[0], self.rows.shape[1] - 1):
            raise UserError(
                f"{losses / 'losses.npy'}: {list(self.reference_losses.shape)} losses don't fit {folder}; "
                f"remove {losses} and run again"
            )

    def selected(self, rows: range) -> int:
        return int(quotas(self.targets_of(rows), self.share).sum())

    def batch(self, numbers: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns PackedSequences.batch, followed by three arrays for `chosen_targets`.

        These are reference losses, float16 [m, length - 1]; then, for each target to be chosen, its sequence
        in the batch and its rank there, int64 [chosen] each. Sequences of weight 0 have none.
        """
        batch = super().batch(numbers, weights)
        counts = quotas(np.count_nonzero(batch.target_weights, axis=1), self.share)
        ranks = [np.arange(count) for count in counts]
        sequences = np.repeat(np.arange(len(counts)), counts)
        return *batch, self.reference_losses[numbers], sequences, np.concatenate(ranks)


@torch.no_grad()
def chosen_targets(
    losses: torch.Tensor,
    target_weights: torch.Tensor,
    reference_losses: torch.Tensor,
    sequences: torch.Tensor,
    ranks: torch.Tensor,
) -> torch.Tensor:
    """Flat numbers of the targets of a micro-batch to train on: int64 [chosen], ascending.

    Nothing here waits for the device: there are as many chosen targets as ranks.

    Args:
        losses: of the current model, float32 [sequences * targets], in nats.
        target_weights: of the same shape; a target of weight 0 comes after all others.
        reference_losses: float16 [sequences, targets].
        sequences, ranks: int64 [chosen], as SelectiveSequences.batch makes them. Rank 0 is the highest
            excess loss of a sequence; of equal ones the earlier target comes first. NaN comes before all
            others, so that a bad step shows.
    """
    excess = losses.view_as(reference_losses) - reference_losses
    excess = excess.masked_fill(target_weights.view_as(excess) == 0, -torch.inf)
    order = excess.sort(dim=1, descending=True, stable=True).indices
    return (sequences * excess.shape[1] + order[sequences, ranks]).sort().values
