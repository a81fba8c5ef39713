"""Compare what the jobs will ask for with what the cluster offers, before anything is submitted."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.preflight import preflight
from cpt.train.experiment import add_experiment, planned


def main(arguments: argparse.Namespace) -> None:
    """Make all checks; UserError if one fails."""
    disk = sum(size or 0.0 for size in planned(arguments).disk().values())
    preflight(arguments.requests, arguments.hub, arguments.site, arguments.results, round(disk))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--requests", type=json_value, required=True, help="the largest jobs")
    parser.add_argument(
        "--hub", type=json_value, required=True, help="[kind, repository, revision, key] each"
    )
    parser.add_argument("--site", type=json_value, required=True, help="the site's values")
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    add_experiment(parser)
    run(main, parser)
