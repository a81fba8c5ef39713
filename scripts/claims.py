import logging
from pathlib import Path

import yaml

from cpt.command import run
from cpt.report.claims import COLUMNS, claim_rows, read_claims
from cpt.report.rows import write_rows
from cpt.report.runs import read_runs
from cpt.report.scores import read_published, read_scores


def claims(
    claims: Path,
    published: Path,
    config: Path,
    scores: Path,
    runs_table: Path,
    table: Path,
    runs: dict[str, int],
) -> None:
    """Compare the paper's quantitative claims with its own numbers, and with what was measured here.

    Args:
        claims: paper/claims.yaml.
        published: the paper's Table 1 as CSV.
        config: the merged config.yaml of the results.
        scores: scores.csv.
        runs_table: runs.csv.
        table: claims.csv to write.
        runs: training tokens of each run.
    """
    paper, stated = read_claims(claims)
    merged = yaml.safe_load(config.read_text(encoding="utf-8"))
    rows = claim_rows(
        paper, stated, read_published(published), merged, runs, read_scores(scores), read_runs(runs_table)
    )
    write_rows(table, COLUMNS, rows)
    logging.info("%d claims in %s", len(rows), table)


if __name__ == "__main__":
    run(claims)
