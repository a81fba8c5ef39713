from pathlib import Path

from cpt.command import run
from cpt.corpus.answers import ConversationTokenizer
from cpt.corpus.conversation_tokens import first_answers
from cpt.corpus.split import first_tokens
from cpt.corpus.tokens import ModelTokenizer


def held_out_tokens(
    documents: Path, model: Path, tokens: int, held_out: Path, conversations: bool = False
) -> None:
    """Tokenize the first held-out documents of a corpus, for training and evaluation to measure the loss on.

    Args:
        documents: the held-out documents (.parquet).
        model: the base model's folder.
        tokens: number of tokens to take.
        held_out: their ids (.npz), to write.
        conversations: whether the documents are conversations, in which only the answers count.
    """
    if conversations:
        sample = first_answers(documents, ConversationTokenizer(model), tokens)
    else:
        sample = first_tokens(documents, ModelTokenizer(model), tokens)
    sample.warn_of_few_groups(documents)
    sample.save(held_out)


if __name__ == "__main__":
    run(held_out_tokens)
