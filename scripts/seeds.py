"""Tell apart what seeds and what items do to the scores of runs that differ only in their seed."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report.rows import write_rows
from cpt.report.seeds import COLUMNS, seed_rows


def main(arguments: argparse.Namespace) -> None:
    """Write the table of seeds."""
    rows = seed_rows(arguments.evaluations, arguments.groups, arguments.base, arguments.tasks)
    write_rows(arguments.output, COLUMNS, rows)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--evaluations", type=Path, required=True, help="folder with one folder per run")
    parser.add_argument("--groups", type=json_value, required=True, help='{"run": ["run", "run-2"], ...}')
    parser.add_argument("--base", required=True, help="name of the base model's scores")
    parser.add_argument("--tasks", type=json_value, required=True, help="evaluate.tasks of the config")
    parser.add_argument("--output", type=Path, required=True, help="seeds.csv")
    run(main, parser)
