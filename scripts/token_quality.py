"""Draw how the token-level quality measures are spread over the documents (paper section 3.2.3)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report import style
from cpt.report.token_quality import draw_quality, read_bins


def main(arguments: argparse.Namespace) -> None:
    """Write the figure in every format."""
    with style.figure(height=3.8) as drawn:
        draw_quality(drawn, read_bins(arguments.quality), arguments.settings)
        style.save(drawn, arguments.output_stem, arguments.formats)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--quality", type=Path, required=True, help="corpora/token_quality.csv")
    parser.add_argument("--settings", type=json_value, required=True, help="filters.token_quality")
    parser.add_argument("--output-stem", type=Path, required=True, help="output path without its extension")
    parser.add_argument("--formats", nargs="+", required=True, help="pdf, png, svg")
    run(main, parser)
