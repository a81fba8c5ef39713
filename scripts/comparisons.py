"""Compare every pair of runs on the same items: differences, tests, intervals, what could be detected.

The paper compares scores without asking how much of a difference is chance.
"""

import argparse
import logging
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report.comparisons import comparison_rows, write_comparisons


def main(arguments: argparse.Namespace) -> None:
    """Write the table of comparisons."""
    rows = comparison_rows(arguments.evaluations, arguments.runs, arguments.tasks, arguments.seed)
    write_comparisons(arguments.output, rows)
    logging.info("%d rows in %s", len(rows), arguments.output)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--evaluations", type=Path, required=True, help="folder with one folder per run")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--tasks", type=json_value, required=True, help="evaluate.tasks of the config")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--output", type=Path, required=True, help="comparisons.csv")
    run(main, parser)
