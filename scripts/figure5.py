"""Draw Figure 5: the letters that each run answers on a task, beside the right ones, and its score."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.report import style
from cpt.report.letters import draw_letters, height, read_letters


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    found = read_letters(arguments.letters, arguments.task)
    with style.figure(height(found)) as drawn:
        draw_letters(drawn, found)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--letters", type=Path, required=True, help="letters.csv")
    parser.add_argument("--task", required=True, help="whose answers are letters")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
