"""Score every target of a packed mixture by a reference model, to train on selected ones (train.selection).

Start it alone or under torchrun; started again after an interruption, it goes on with what isn't scored yet.
Needs only torch, transformers and numpy.
"""

import argparse
from pathlib import Path

import torch.distributed as dist

from cpt.command import command_parser, run
from cpt.provenance import provenance
from cpt.train.processes import end_at_once, start_processes
from cpt.train.reference_losses import ReferenceLosses


def main(arguments: argparse.Namespace) -> None:
    """Score this process's share; rank 0 then joins all shares."""
    rank, world_size, device = start_processes("ddp", arguments.device)
    losses = ReferenceLosses(
        arguments.model,
        arguments.sequences,
        arguments.scope == "documents",
        arguments.precision,
        device,
        arguments.output,
        arguments.code,
    )
    losses.score(rank, world_size)
    if rank == 0:
        losses.assemble(provenance(losses.settings, arguments.code))
    if dist.is_initialized():
        dist.destroy_process_group()
    end_at_once(0)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder of the reference")
    parser.add_argument("--sequences", type=Path, required=True, help="folder of the packed mixture")
    parser.add_argument(
        "--scope",
        choices=("sequences", "documents"),
        required=True,
        help="what a token may attend to: documents with train.document_masking",
    )
    parser.add_argument("--precision", choices=("float32", "bf16"), required=True, help="on a GPU")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run(main, parser)
