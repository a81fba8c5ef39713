"""Make a model between the base model and a trained one: (1 - ratio) * base + ratio * run."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import sha256_of, write_json
from cpt.provenance import provenance
from cpt.train.interpolation import interpolate


def main(arguments: argparse.Namespace) -> None:
    """Write the model folder and a report of what it is made of."""
    interpolate(arguments.base, arguments.run, arguments.ratio, arguments.output)
    folders = {"base": arguments.base, "run": arguments.run, "interpolated": arguments.output}
    report = {
        "ratio": arguments.ratio,
        "sha256": {name: sha256_of(folder / "model.safetensors") for name, folder in folders.items()},
        "provenance": provenance({"ratio": arguments.ratio}, arguments.code),
    }
    write_json(arguments.report, report)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the base model's folder")
    parser.add_argument("--run", type=Path, required=True, help="the trained model's folder")
    parser.add_argument("--ratio", type=float, required=True, help="share of the trained model")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--report", type=Path, required=True, help="report (.json) to write")
    run(main, parser)
