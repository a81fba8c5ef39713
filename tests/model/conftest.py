import json

import pytest
import torch

from cpt.model.tiny import load_random

TINY = {"source": "random", "hidden_size": 32, "layers": 2, "heads": 4, "context_length": 256, "seed": 0}


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
