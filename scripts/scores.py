"""Put every score of every run into one table, with intervals and paired tests against the base model.

Paper section 4.1; the paper itself gives no uncertainties.
"""

import argparse
import logging
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report.scores import PUBLISHED_MODEL, read_published, score_rows, write_scores


def main(arguments: argparse.Namespace) -> None:
    """Write the long table of scores."""
    # Scores of another model are no published values of these runs, whatever the runs are called.
    same_model = arguments.base.get("repo") == PUBLISHED_MODEL
    rows = score_rows(
        arguments.evaluations,
        arguments.runs,
        arguments.tasks,
        arguments.corpora,
        read_published(arguments.published) if same_model else {},
        arguments.seed,
    )
    write_scores(arguments.output, rows)
    logging.info("%d rows in %s", len(rows), arguments.output)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--evaluations", type=Path, required=True, help="folder with one folder per run")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--tasks", type=json_value, required=True, help="evaluate.tasks of the config")
    parser.add_argument("--corpora", type=json_value, required=True, help="corpora measured in bits per byte")
    parser.add_argument("--base", type=json_value, required=True, help="base of the config")
    parser.add_argument("--published", type=Path, required=True, help="the paper's Table 1 as CSV")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--output", type=Path, required=True, help="scores.csv")
    run(main, parser)
