"""Draw the learning rates of all runs as planned, before any of them trains."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report import style
from cpt.report.figures import draw_schedules, read_schedule


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    with style.figure(height=2.6) as drawn:
        draw_schedules(drawn, [read_schedule(path) for path in arguments.schedules], arguments.runs)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--schedules", type=Path, nargs="+", required=True, help="schedule.csv of each run")
    parser.add_argument("--runs", type=json_value, required=True, help="name and tokens, in the same order")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
