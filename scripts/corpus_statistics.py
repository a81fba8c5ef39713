"""One table of what every stage read, dropped and kept, and one of the token-level measures (paper 3.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.corpus.layout import shard_path, shards_of
from cpt.corpus.quality import QualityHistogram
from cpt.corpus.statistics import Row, rows_of
from cpt.files import read_json, write_text


def main(arguments: argparse.Namespace) -> None:
    ledgers = [read_json(path) for path in arguments.ledgers]
    lines = [",".join(Row._fields)]
    bins = ["corpus,measure,from,to,documents"]
    for corpus, shards in arguments.corpora.items():
        for row in rows_of(arguments.root, corpus, shards, arguments.duplicates, ledgers):
            lines.append(",".join("" if value is None else str(value) for value in row))
        histogram = QualityHistogram()
        for _, shard in shards_of({corpus: shards}):
            histogram.add_file(shard_path(arguments.root, corpus, "tokens", shard, ".quality.csv"))
        bins += [",".join((corpus, row)) for row in histogram.lines()]
    write_text(arguments.output, "\n".join(lines) + "\n")
    write_text(arguments.quality, "\n".join(bins) + "\n")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--corpora", type=json_value, required=True, help="{corpus: number of shards}")
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument(
        "--duplicates", type=Path, nargs="+", required=True, help="duplicates.csv, near_duplicates.csv"
    )
    parser.add_argument("--ledgers", type=Path, nargs="*", default=[], help="ledger.json of the mixtures")
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    parser.add_argument("--quality", type=Path, required=True, help="documents per bin of measures (.csv)")
    run(main, parser)
