"""Turn a run's token budget into sequences and steps, and check it against the packed data."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.files import read_json, write_json
from cpt.train.plan import make_plan


def main(arguments: argparse.Namespace) -> None:
    """Write the run's plan.json."""
    plan = make_plan(
        arguments.run,
        arguments.tokens,
        arguments.processes,
        arguments.train,
        read_json(arguments.ledger),
        read_json(arguments.model_config)["max_position_embeddings"],
    )
    write_json(arguments.output, plan)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--tokens", type=int, required=True, help="budget")
    parser.add_argument("--processes", type=int, required=True, help="training processes (GPUs)")
    parser.add_argument("--train", type=json_value, required=True, help="the run's train settings")
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.json of the packed mixture")
    parser.add_argument("--model-config", type=Path, required=True, help="config.json of the start model")
    parser.add_argument("--output", type=Path, required=True)
    run(main, parser)
