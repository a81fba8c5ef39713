import json
import random

import pytest
import sentencepiece
import torch

from cpt.model.tiny import load_random

TINY = {"source": "random", "hidden_size": 32, "layers": 2, "heads": 4, "context_length": 256, "seed": 0}

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
    "12",
    "345",
]


@pytest.fixture
def tiny():
    """A tiny Llama with a byte-level tokenizer, as it comes from source: random."""
    return load_random(TINY)


@pytest.fixture
def folder(tiny, tmp_path):
    """The same as a Hugging Face folder."""
    tiny.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def edit_json():
    """Change keys of a JSON file; None removes a key."""

    def edit(path, **changes):
        value = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))

    return edit


@pytest.fixture
def logits():
    """Logits of a model for a fixed input."""

    def compute(model):
        with torch.inference_mode():
            return model.eval()(input_ids=torch.arange(3, 40)[None]).logits

    return compute


def lines_of_prose(seed, count=400):
    """Prose, indentation and runs of spaces."""
    draw = random.Random(seed)
    return [
        " " * draw.choice([0, 0, 1, 4, 8, 17])
        + "".join(draw.choice(WORDS) + " " * draw.choice([1, 1, 1, 2, 5]) for _ in range(8))
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory):
    """Train a small SentencePiece model; Llama's settings, unless others are given."""

    def train_model(**changed):
        folder = tmp_path_factory.mktemp("pieces")
        (folder / "text.txt").write_text("\n".join(lines_of_prose(0)))
        llama = {
            "vocab_size": 350,
            "model_type": "bpe",
            "byte_fallback": True,
            "split_digits": True,
            "normalization_rule_name": "identity",
            "allow_whitespace_only_pieces": True,
            "remove_extra_whitespaces": False,
        }
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"),
            model_prefix=str(folder / "tokenizer"),
            num_threads=1,
            minloglevel=2,
            **(llama | changed),
        )
        return folder / "tokenizer.model"

    return train_model


@pytest.fixture(scope="session")
def prose():
    return lines_of_prose
