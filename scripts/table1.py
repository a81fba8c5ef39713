"""Print the scores as the paper's Table 1, as CSV, Markdown and LaTeX (paper section 4.1)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.report.labels import model_name
from cpt.report.scores import read_published, read_scores
from cpt.report.tables import Table1, write_csv, write_latex, write_markdown


def main(arguments: argparse.Namespace) -> None:
    """Write the three forms of Table 1."""
    table = Table1(
        read_scores(arguments.scores),
        arguments.runs,
        arguments.tasks,
        model_name(arguments.base),
        read_published(arguments.published),
    )
    write_csv(arguments.csv, table)
    write_markdown(arguments.markdown, table)
    write_latex(arguments.latex, table)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    parser.add_argument("--runs", type=json_value, required=True, help='[{"name": ..., "tokens": ...}, ...]')
    parser.add_argument("--tasks", type=json_value, required=True, help="evaluate.tasks of the config")
    parser.add_argument("--base", type=json_value, required=True, help="base of the config")
    parser.add_argument("--published", type=Path, required=True, help="the paper's Table 1 as CSV")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, required=True)
    parser.add_argument("--latex", type=Path, required=True)
    run(main, parser)
