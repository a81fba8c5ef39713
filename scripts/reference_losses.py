from pathlib import Path
from typing import Literal

from cpt import command
from cpt.provenance import provenance
from cpt.train.processes import leave_processes, start_processes, stop_when_asked
from cpt.train.reference_losses import ReferenceLosses


def reference_losses(
    packed: Path,
    model: Path,
    losses: Path,
    scope: Literal["sequences", "documents"],
    precision: Literal["float32", "bf16", "auto"],
    device: Literal["cuda", "cpu"] = "cuda",
) -> None:
    """Compute a reference model's loss on every target of a packed mixture, to train on selected ones.

    Start it alone or under torchrun; started again after an interruption, it scores what isn't scored yet.
    Needs only torch, transformers and numpy.

    Args:
        packed: folder of the packed mixture.
        model: Hugging Face folder of the reference.
        losses: folder to write.
        scope: what a token may attend to: documents with train.document_masking.
        precision: precision on a GPU; a CPU computes in float32.
        device: where each process computes.
    """
    stop_when_asked()
    rank, world_size, own_device = start_processes("ddp", device)
    masking = scope == "documents"
    scoring = ReferenceLosses(model, packed, masking, precision, own_device, losses, command.code)
    scoring.score(rank, world_size)
    if rank == 0:
        scoring.assemble(provenance(scoring.settings))
    leave_processes()


if __name__ == "__main__":
    command.run(reference_losses)
