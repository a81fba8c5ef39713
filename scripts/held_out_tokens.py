"""Tokenize the first held-out documents of a corpus, for training and evaluation to measure the loss on."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.corpus.held_out import first_tokens
from cpt.corpus.tokens import ModelTokenizer


def main(arguments: argparse.Namespace) -> None:
    """Write the tokens (.npz)."""
    first_tokens(arguments.input, ModelTokenizer(arguments.model), arguments.tokens).save(arguments.output)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="held-out documents (.parquet)")
    parser.add_argument("--model", type=Path, required=True, help="the base model's folder")
    parser.add_argument("--tokens", type=int, required=True, help="how many tokens to take")
    parser.add_argument("--output", type=Path, required=True, help="their ids (.npz)")
    run(main, parser)
