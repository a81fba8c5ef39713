"""Continue pre-training of a model on packed sequences (paper sections 3.3 and 3.4).

Start it alone or under torchrun; started again after an interruption, it goes on from its newest
checkpoint. Needs only torch, transformers and numpy (and deepspeed for that engine).
"""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import read_json
from cpt.train.loop import train, write_run


def main(arguments: argparse.Namespace) -> None:
    """Train, then write model folder, metrics and summary (rank 0)."""
    summary = train(
        read_json(arguments.plan), arguments.model, arguments.sequences, arguments.work, arguments.device
    )
    if summary is not None:
        write_run(
            summary, arguments.work, arguments.output, arguments.metrics, arguments.summary, arguments.code
        )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="the run's plan.json")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder to start from")
    parser.add_argument("--sequences", type=Path, required=True, help="folder of the packed mixture")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; removed when done")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.csv")
    parser.add_argument("--summary", type=Path, required=True, help="run.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    run(main, parser)
