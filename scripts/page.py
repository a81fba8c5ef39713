"""Make an HTML page of a table (.csv) or a text (.md), for Snakemake's report."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import write_text
from cpt.report.pages import html_of_markdown, page, table_of_csv


def main(arguments: argparse.Namespace) -> None:
    """Write the page."""
    text = arguments.source.read_text(encoding="utf-8")
    is_table = arguments.source.suffix == ".csv"
    body = table_of_csv(text, arguments.source.name) if is_table else html_of_markdown(text)
    write_text(arguments.output, page(arguments.title, arguments.caption, body))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="file to show: .csv or .md")
    parser.add_argument("--title", required=True)
    parser.add_argument("--caption", required=True, help="what it shows, in words")
    parser.add_argument("--output", type=Path, required=True, help="page (.html) to write")
    run(main, parser)
