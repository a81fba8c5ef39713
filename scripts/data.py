"""Tell what every data stage took and left of each corpus, as a table (paper section 3.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.report.rows import write_rows
from cpt.report.waterfall import DATA_COLUMNS, data_rows, read_steps


def main(arguments: argparse.Namespace) -> None:
    """Write the table of data."""
    write_rows(arguments.output, DATA_COLUMNS, data_rows(read_steps(arguments.statistics)))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--statistics", type=Path, required=True, help="corpora/statistics.csv")
    parser.add_argument("--output", type=Path, required=True, help="data.csv")
    run(main, parser)
