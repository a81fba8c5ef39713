"""Record where an experiment's results come from, as JSON and as an RO-Crate."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import write_json
from cpt.report.crate import crate_metadata
from cpt.report.merged import read_merged
from cpt.report.record import record


def main(arguments: argparse.Namespace) -> None:
    """Write provenance.json, then the crate, which describes it too."""
    found = record(arguments.results)
    write_json(arguments.output, found)
    config = read_merged(arguments.results)
    write_json(arguments.crate, crate_metadata(arguments.results, config, found))


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the finished results")
    parser.add_argument("--output", type=Path, required=True, help="provenance.json")
    parser.add_argument("--crate", type=Path, required=True, help="ro-crate-metadata.json, in the folder")
    run(main, parser)
