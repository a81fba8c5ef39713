"""What the rules dropped from each corpus: counts, and ten documents per rule to be read (Markdown)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.corpus.drop_report import sections_of
from cpt.files import write_text


def main(arguments: argparse.Namespace) -> None:
    sections = ["# What was dropped, and why\n"]
    for corpus, shards in arguments.corpora.items():
        sections += sections_of(arguments.root, corpus, shards)
    write_text(arguments.output, "\n".join(sections))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--corpora", type=json_value, required=True, help="{corpus: number of shards}")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--output", type=Path, required=True, help="the report (.md)")
    run(main, parser)
