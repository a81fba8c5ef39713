"""Draw Figure 6: what each stage of the data pipeline leaves of every corpus (paper section 3.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.report import style
from cpt.report.waterfall import draw_waterfall, height, read_steps


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    corpora = read_steps(arguments.statistics)
    with style.figure(height(corpora)) as drawn:
        draw_waterfall(drawn, corpora)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--statistics", type=Path, required=True, help="corpora/statistics.csv")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
