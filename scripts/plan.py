"""Plan an experiment before anything is spent: tokens, steps, device-hours, memory, disk, warnings."""

import argparse
import logging
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.config import load
from cpt.files import write_text
from cpt.train.costs import shape_of
from cpt.train.experiment import ExperimentPlan


def main(arguments: argparse.Namespace) -> None:
    """Write the page, and tell its warnings."""
    config = load(arguments.config)
    plan = ExperimentPlan(config, shape_of(config.base.model_dump(), arguments.model), arguments.local_bytes)
    write_text(arguments.output, plan.markdown())
    for warning in plan.warnings():
        logging.warning("warning: %s", warning)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=json_value, required=True, help="the merged config")
    parser.add_argument("--model", type=Path, help="the base model's folder, if it is imported already")
    parser.add_argument("--local-bytes", type=json_value, default={}, help="size of own files, by corpus")
    parser.add_argument("--output", type=Path, required=True, help="plan.md")
    run(main, parser)
