"""Hold the paper's quantitative claims against its own numbers, and against what was measured here."""

import argparse
import logging
from functools import partial
from pathlib import Path

import yaml

from cpt.command import command_parser, json_value, run
from cpt.report.claims import claim_rows, read_claims, write_claims
from cpt.report.evidence import FromPaper, FromResults, stand_ins
from cpt.report.runs import read_runs
from cpt.report.same_experiment import obstacle
from cpt.report.scores import read_published, read_scores


def main(arguments: argparse.Namespace) -> None:
    """Write the table of claims."""
    paper, claims = read_claims(arguments.claims)
    published = read_published(arguments.published)
    scores, runs = read_scores(arguments.scores), read_runs(arguments.runs_table)
    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    names = stand_ins(config, arguments.runs, paper)
    rows = claim_rows(
        paper,
        claims,
        published,
        FromPaper(paper, published),
        FromResults(scores, runs, config["evaluate"]["tasks"], names, config["evaluate"]["seed"]),
        names,
        partial(obstacle, config, paper, names, scores, runs),
    )
    write_claims(arguments.output, rows)
    logging.info("%d claims in %s", len(rows), arguments.output)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--claims", type=Path, required=True, help="paper/claims.yaml")
    parser.add_argument("--published", type=Path, required=True, help="the paper's Table 1 as CSV")
    parser.add_argument("--config", type=Path, required=True, help="the merged config.yaml of the results")
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    parser.add_argument("--runs-table", type=Path, required=True, help="runs.csv")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--output", type=Path, required=True, help="claims.csv")
    run(main, parser)
