from pathlib import Path

from cpt.command import run
from cpt.corpus.split import first_tokens
from cpt.corpus.tokens import ModelTokenizer


def held_out_tokens(documents: Path, model: Path, tokens: int, held_out: Path) -> None:
    """Tokenize the first held-out documents of a corpus, for training and evaluation to measure the loss on.

    Args:
        documents: the held-out documents (.parquet).
        model: the base model's folder.
        tokens: how many tokens to take.
        held_out: their ids (.npz), to write.
    """
    first_tokens(documents, ModelTokenizer(model), tokens).save(held_out)


if __name__ == "__main__":
    run(held_out_tokens)
