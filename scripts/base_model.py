"""Turn the base model into a plain Hugging Face folder and check that it works (paper section 3.4.2)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.files import atomic, write_json
from cpt.model.checks import check_context, check_dense, check_loss, describe
from cpt.model.load import load_source
from cpt.provenance import provenance


def main(arguments: argparse.Namespace) -> None:
    source = arguments.source
    with atomic(arguments.output) as folder:
        loaded = load_source(source, arguments.wheel)
        check_dense(loaded.model)
        check_context(loaded.model.config, arguments.sequence_length)
        loaded.save(folder)
        report = {"source": source, **loaded.facts, "mended": loaded.mended, **describe(folder, loaded.model)}
        if source["source"] != "random":
            check_loss(report)
    settings = {"source": source, "sequence_length": arguments.sequence_length}
    seeds = {"weights": source["seed"]} if source["source"] == "random" else {}
    write_json(arguments.report, {**report, "provenance": provenance(settings, arguments.code, seeds)})


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument(
        "--source", type=json_value, required=True, help="the config's `base` section, as JSON"
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, for source: package")
    parser.add_argument("--sequence-length", type=int, required=True, help="tokens per training sequence")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--report", type=Path, required=True, help="import report (JSON) to write")
    run(main, parser)
