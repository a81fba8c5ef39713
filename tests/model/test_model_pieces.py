"""SentencePiece models as tokenizer.json."""

import random

import pytest
import sentencepiece

from cpt.errors import UserError
from cpt.model.pieces import tokenizer_of_pieces

WORDS = [
    "the",
    "model",
    "reads",
    "a",
    "document",
    "and",
    "writes",
    "tokens",
    "for",
    "each",
    "word",
    "of",
    "the",
    "text",
    "in",
    "order",
    "12",
    "345",
]


def lines(seed, count=400):
    """Prose, indentation and runs of spaces."""
    draw = random.Random(seed)
    return [
        " " * draw.choice([0, 0, 1, 4, 8, 17])
        + "".join(draw.choice(WORDS) + " " * draw.choice([1, 1, 1, 2, 5]) for _ in range(8))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    def train_model(**settings):
        folder = tmp_path_factory.mktemp("pieces")
        (folder / "text.txt").write_text("\n".join(lines(0)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=380,
            model_type="bpe",
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            allow_whitespace_only_pieces=True,
            num_threads=1,
            minloglevel=2,
            **settings,
        )
        return folder / "tokenizer.model"

    return train_model


@pytest.fixture(scope="module")
def model(train):
    return train(remove_extra_whitespaces=False)


def test_ids_are_those_of_sentencepiece_also_in_runs_of_spaces(model):
    source = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = {source.id_to_piece(i) for i in range(source.get_piece_size())}
    assert "\u2581\u2581" in pieces  # else there is nothing to get wrong
    tokenizer = tokenizer_of_pieces(model)
    for text in [*lines(1), " " * 30, "é漢😀\t\u0007 \u2581 x", "the  \n   model"]:
        assert tokenizer.encode(text).ids == source.encode(text), text
        assert tokenizer.decode(tokenizer.encode(text).ids) == source.decode(source.encode(text))


def test_control_tokens_are_special(model):
    tokenizer = tokenizer_of_pieces(model)
    assert [tokenizer.token_to_id(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert tokenizer.decode([1, 2]) == ""


def test_a_tokenizer_that_cant_be_matched_is_refused(train):
    with pytest.raises(UserError, match="other ids than SentencePiece"):
        tokenizer_of_pieces(train(remove_extra_whitespaces=True))


def test_a_file_that_isnt_sentencepiece_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        tokenizer_of_pieces(tmp_path / "tokenizer.model")
