"""Count which letters each run answers, and how often each is right.

A model of this size has a preference for letters, which MMLU then measures.
"""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report.nulls import LETTER_COLUMNS, letter_rows
from cpt.report.rows import write_rows
from cpt.report.samples import read_answers, samples_path


def main(arguments: argparse.Namespace) -> None:
    """Write the histogram of answers by run and task."""
    rows = [
        row
        for run in arguments.runs
        for task in arguments.tasks
        for row in letter_rows(
            run, task, read_answers(samples_path(arguments.evaluations, run["name"], task))
        )
    ]
    write_rows(arguments.output, LETTER_COLUMNS, rows)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--evaluations", type=Path, required=True, help="folder with one folder per run")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--tasks", nargs="+", required=True, help="names of the tasks")
    parser.add_argument("--output", type=Path, required=True, help="letters.csv")
    run(main, parser)
