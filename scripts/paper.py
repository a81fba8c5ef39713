"""Set the paper: a PDF whose every number is read from the results when it is compiled."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.report.typesetting import typeset

FIGURES = tuple(f"figure{number}" for number in range(1, 7))


def main(arguments: argparse.Namespace) -> None:
    """Write the PDF."""
    typeset(
        arguments.output,
        files={
            "paper.typ": arguments.template,
            "references.bib": arguments.references,
            "published.csv": arguments.published,
            "config.yaml": arguments.config,
            "scores.csv": arguments.scores,
            "comparisons.csv": arguments.comparisons,
            "letters.csv": arguments.letters,
            "claims.csv": arguments.claims,
            "claims.yaml": arguments.claims_source,
            "runs.csv": arguments.runs_table,
            "base.json": arguments.base,
        },
        optional={
            "statistics": arguments.statistics,
            **dict.fromkeys(FIGURES),
            **{path.stem: path for path in arguments.figures},
        },
        lists={"runs": arguments.runs, "ledgers": arguments.ledgers},
    )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--template", type=Path, required=True, help="paper.typ")
    parser.add_argument("--references", type=Path, required=True, help="references.bib")
    parser.add_argument("--published", type=Path, required=True, help="the paper's Table 1 as CSV")
    parser.add_argument("--config", type=Path, required=True, help="the merged config.yaml of the results")
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    parser.add_argument("--comparisons", type=Path, required=True, help="comparisons.csv")
    parser.add_argument("--letters", type=Path, required=True, help="letters.csv")
    parser.add_argument("--claims", type=Path, required=True, help="claims.csv")
    parser.add_argument("--claims-source", type=Path, required=True, help="paper/claims.yaml")
    parser.add_argument("--runs-table", type=Path, required=True, help="runs.csv")
    parser.add_argument("--base", type=Path, required=True, help="models/base.json")
    parser.add_argument("--statistics", type=Path, help="corpora/statistics.csv")
    parser.add_argument("--ledgers", type=Path, nargs="*", default=[], help="packed/*/ledger.json")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs/*/run.json")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="figure1.svg, figure2.svg, ...")
    parser.add_argument("--output", type=Path, required=True, help="paper.pdf")
    run(main, parser)
