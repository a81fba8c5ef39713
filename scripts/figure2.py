"""Draw Figure 2: change of the educational and general benchmarks over training tokens (paper 4.3.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report import style
from cpt.report.figures import draw_changes
from cpt.report.scores import read_published, read_scores


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    with style.figure(height=2.9) as drawn:
        draw_changes(
            drawn,
            read_scores(arguments.scores),
            arguments.groups,
            arguments.runs,
            read_published(arguments.published),
            arguments.seed,
        )
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    parser.add_argument("--groups", type=json_value, required=True, help="evaluate.groups of the config")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--published", type=Path, required=True, help="the paper's Table 1 as CSV")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
