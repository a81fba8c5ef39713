"""Draw Figure 4: paired differences from the base model per task and run, and what could be detected."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report import style
from cpt.report.comparisons import read_comparisons
from cpt.report.forest import draw_differences, height, of_base


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    rows = of_base(read_comparisons(arguments.comparisons))
    labels = {task: settings["label"] for task, settings in arguments.tasks.items()}
    with style.figure(height(rows)) as drawn:
        draw_differences(drawn, rows, labels)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--comparisons", type=Path, required=True, help="comparisons.csv")
    parser.add_argument("--tasks", type=json_value, required=True, help="evaluate.tasks of the config")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
