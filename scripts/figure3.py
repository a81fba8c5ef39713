"""Draw Figure 3: domain and general bits per byte along training, and one over the other (forgetting)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report import style
from cpt.report.forgetting import draw_forgetting, read_curves, read_points


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    points = read_points(arguments.evaluations, arguments.base, arguments.interpolated, arguments.corpora)
    with style.figure(height=3.6 if len(arguments.corpora) > 1 else 2.6) as drawn:
        curves = [read_curves(path) for path in arguments.held_out]
        draw_forgetting(drawn, curves, arguments.runs, arguments.corpora, points)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="held_out.csv of each run")
    parser.add_argument("--runs", type=json_value, required=True, help="name and origin, in the same order")
    parser.add_argument("--corpora", nargs="+", required=True, help="the domain, then the general corpus")
    parser.add_argument("--evaluations", type=Path, required=True, help="folder of the scores")
    parser.add_argument("--base", required=True, help="name of the base model's scores")
    parser.add_argument(
        "--interpolated", type=json_value, default=[], help="models: name, and run they lead to"
    )
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
