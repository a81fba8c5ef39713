"""Put what each training run took and reached into one table (paper section 4.2.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.report.runs import write_runs


def main(arguments: argparse.Namespace) -> None:
    """Write the table of runs."""
    write_runs(arguments.output, arguments.summaries)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--summaries", type=Path, nargs="*", default=[], help="run.json of each run, metrics.csv beside it"
    )
    parser.add_argument("--output", type=Path, required=True, help="runs.csv")
    run(main, parser)
