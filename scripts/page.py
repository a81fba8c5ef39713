"""Make an HTML page of a table (.csv) or a text (.md), for Snakemake's report."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import write_text
from cpt.report.pages import page_of_csv, page_of_markdown


def main(arguments: argparse.Namespace) -> None:
    """Write the page."""
    text = arguments.source.read_text(encoding="utf-8")
    if arguments.source.suffix == ".csv":
        write_text(arguments.output, page_of_csv(arguments.title, text, arguments.source.name))
    else:
        write_text(arguments.output, page_of_markdown(arguments.title, text))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="file to show: .csv or .md")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="page (.html) to write")
    run(main, parser)
