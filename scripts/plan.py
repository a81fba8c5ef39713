"""Plan an experiment before anything is spent: tokens, steps, device-hours, memory, disk, warnings."""

import argparse
import logging
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import write_text
from cpt.train.experiment import add_experiment, planned


def main(arguments: argparse.Namespace) -> None:
    """Write the page, and tell its warnings."""
    plan = planned(arguments)
    write_text(arguments.output, plan.markdown())
    for warning in plan.warnings():
        logging.warning("warning: %s", warning)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    add_experiment(parser)
    parser.add_argument("--output", type=Path, required=True, help="plan.md")
    run(main, parser)
