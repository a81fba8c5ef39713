"""One table of what every stage read, dropped and kept (paper 3.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.corpus.statistics import Row, rows_of
from cpt.files import write_text


def main(arguments: argparse.Namespace) -> None:
    lines = [",".join(Row._fields)]
    for corpus, shards in arguments.corpora.items():
        for row in rows_of(arguments.root, corpus, shards, arguments.duplicates):
            lines.append(",".join("" if value is None else str(value) for value in row))
    write_text(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--corpora", type=json_value, required=True, help="{corpus: number of shards}")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument(
        "--duplicates", type=Path, nargs="+", required=True, help="duplicates.csv, near_duplicates.csv"
    )
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    run(main, parser)
