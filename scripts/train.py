"""Continue pre-training of a model on packed sequences (paper sections 3.3 and 3.4).

Start it alone or under torchrun; started again after an interruption, it goes on from its newest
checkpoint. Needs only torch, transformers and numpy (and deepspeed for that engine).
"""

import argparse
from pathlib import Path

import torch.distributed as dist

from cpt.command import command_parser, run
from cpt.files import read_json
from cpt.train.loop import train
from cpt.train.processes import end_at_once
from cpt.train.results import write_run


def corpus_file(text: str) -> tuple[str, Path]:
    """Argparse type for CORPUS=FILE."""
    corpus, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected CORPUS=FILE, got {text!r}")
    return corpus, Path(path)


def main(arguments: argparse.Namespace) -> None:
    """Train, then write model folder, metrics and summary (rank 0)."""
    summary = train(
        read_json(arguments.plan),
        arguments.model,
        arguments.sequences,
        arguments.work,
        arguments.device,
        dict(arguments.held_out),
        arguments.keep_optimizer,
        arguments.reference_losses,
    )
    if summary is not None:
        write_run(
            summary,
            arguments.work,
            arguments.output,
            arguments.metrics,
            arguments.held_out_losses,
            arguments.summary,
            arguments.code,
        )
    if dist.is_initialized():
        dist.destroy_process_group()
    end_at_once(0)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="the run's plan.json")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder to start from")
    parser.add_argument(
        "--sequences",
        type=Path,
        nargs="+",
        required=True,
        help="folder of the packed mixture, or of both of a run that switches",
    )
    parser.add_argument(
        "--held-out",
        type=corpus_file,
        nargs="*",
        default=[],
        metavar="CORPUS=FILE",
        help="held-out tokens (.npz) to measure the loss on, if the plan says so",
    )
    parser.add_argument(
        "--reference-losses",
        type=Path,
        nargs="*",
        default=[],
        help="folder of the reference's losses on each mixture, if the plan says so (train.selection)",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; removed when done")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained model")
    parser.add_argument(
        "--keep-optimizer", action="store_true", help="leave AdamW's moments in it, for a run that continues"
    )
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.csv")
    parser.add_argument("--held-out-losses", type=Path, required=True, help="held_out.csv")
    parser.add_argument("--summary", type=Path, required=True, help="run.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run(main, parser)
