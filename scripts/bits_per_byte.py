"""Measure how well a model predicts the held-out text of one corpus: loss and bits per byte."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.cpu import set_up_products
from cpt.evaluate.bits import bits_per_byte
from cpt.evaluate.model import load_model, out_of_memory_explained
from cpt.files import sha256_of, write_json
from cpt.held_out import load_held_out
from cpt.provenance import provenance

SETTINGS = ("sequence_length", "batch_size", "precision")


def main(arguments: argparse.Namespace) -> None:
    settings = {name: arguments.settings[name] for name in SETTINGS}
    set_up_products()
    model, _ = load_model(arguments.model, settings["precision"], arguments.threads)
    held_out = load_held_out(arguments.held_out)
    with out_of_memory_explained("evaluate.batch_size", settings["batch_size"]):
        scores = bits_per_byte(model, held_out, settings["sequence_length"], settings["batch_size"])
    write_json(
        arguments.output,
        {
            "corpus": arguments.corpus,
            **scores,
            "settings": settings,
            "model_sha256": sha256_of(arguments.model / "model.safetensors"),
            "provenance": provenance({**settings, "corpus": arguments.corpus}, arguments.code),
        },
    )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model folder")
    parser.add_argument("--held-out", type=Path, required=True, help="its held-out tokens (.npz)")
    parser.add_argument("--corpus", required=True, help="name of the corpus, for the report")
    parser.add_argument("--settings", type=json_value, required=True, help=f"JSON with {', '.join(SETTINGS)}")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, where there is no GPU")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    run(main, parser)
