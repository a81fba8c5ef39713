"""Put a model together as it can be published: weights, tokenizer, and a card with its scores."""

import argparse
from pathlib import Path

import yaml

from cpt.command import command_parser, run
from cpt.files import atomic, link, read_json
from cpt.report.model_card import model_card
from cpt.report.scores import read_scores


def main(arguments: argparse.Namespace) -> None:
    """Write the folder."""
    card = model_card(
        arguments.run,
        yaml.safe_load(arguments.config.read_text(encoding="utf-8")),
        read_json(arguments.base),
        read_scores(arguments.scores),
        read_json(arguments.summary),
    )
    with atomic(arguments.output) as folder:
        folder.mkdir()
        for file in sorted(arguments.model.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                link(file, folder / file.name)
        (folder / "README.md").write_text(str(card), encoding="utf-8")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--model", type=Path, required=True, help="its model folder")
    parser.add_argument("--config", type=Path, required=True, help="the merged config.yaml of the results")
    parser.add_argument("--base", type=Path, required=True, help="models/base.json")
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    parser.add_argument("--summary", type=Path, required=True, help="run.json of the trained run")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    run(main, parser)
