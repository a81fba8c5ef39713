"""Models and tokenizers that llama.cpp would compute differently aren't written as GGUF."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.gguf_folders import LLAMA3_ROPE, byte_pairs, saved
from tokenizers import (
    models,
    normalizers,
    pre_tokenizers,
)

from cpt.errors import UserError
from cpt.model.gguf_file import write_gguf
from cpt.model.tiny import END_OF_TEXT

REFUSED = {
    "opt": (
        {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 64},
        r"model_type 'opt' .* only llama, mis",
    ),
    "activation": (
        {"model_type": "llama", "hidden_act": "gelu"},
        r"config\.json has hidden_act: 'gelu', but",
    ),
    "layers": ({"model_type": "smollm3", "no_rope_layer_interval": 2}, "has no_rope_layers: "),
    "dynamic": (
        {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        "rotary positions of the type 'dynamic'",
    ),
    "llama3": (
        {"model_type": "qwen2", "rope_scaling": LLAMA3_ROPE | {"original_max_position_embeddings": 64}},
        "type 'llama3' in config.json can't be written as GGUF for a qwen2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_llama_cpp_would_compute_differently_is_refused(name, tmp_path):
    settings, message = REFUSED[name]
    saved(tmp_path / "model", settings)
    with pytest.raises(UserError, match=message):
        write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")


def test_a_weight_that_llama_cpp_lacks_is_named(tmp_path):
    saved(tmp_path / "model", {"model_type": "llama"})
    file = tmp_path / "model" / "model.safetensors"
    save_file({**load_file(file), "model.layers.0.adapter.weight": torch.ones(2, 2)}, file, {"format": "pt"})
    with pytest.raises(
        UserError, match=r"the weight model\.layers\.0\.adapter\.weight has no place in a GGUF"
    ):
        write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": pre_tokenizers.Whitespace()}, "cuts text by 'Whitespace'"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)}, "cuts text by 'ByteLevel'"),
        ({"normalizer": normalizers.Lowercase()}, "normalizes text by Lowercase"),
        (
            {"model": models.WordLevel({"a": 0, END_OF_TEXT: 1}, unk_token="a")},
            "is of the type WordLevel, not BPE",
        ),
    ],
    ids=str,
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(change, message, tmp_path):
    backend = byte_pairs("bytes")
    for name, value in change.items():
        setattr(backend, name, value)
    saved(tmp_path / "model", {"model_type": "llama"}, backend, {"eos_token": END_OF_TEXT}, [1])
    with pytest.raises(UserError, match=f"the tokenizer {message}"):
        write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")
