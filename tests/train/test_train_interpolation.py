"""Models between the base model and a run."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cpt.errors import UserError
from cpt.files import read_json, sha256_of
from cpt.train.interpolation import interpolated_model
from interpolate import interpolate


@pytest.fixture
def trained(model_folder, tmp_path) -> Path:
    """The random model with every weight moved a little, saved with a tokenizer file."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "trained")
    (tmp_path / "trained" / "tokenizer.json").write_text("{}")
    return tmp_path / "trained"


def test_every_weight_lies_between(model_folder, trained, tmp_path):
    interpolate(model_folder, trained, tmp_path / "half", tmp_path / "half.json", ratio=0.25)
    folders = (model_folder, trained, tmp_path / "half")
    start, end, half = (dict(AutoModelForCausalLM.from_pretrained(f).named_parameters()) for f in folders)
    assert set(start) == set(half)
    for name, weight in half.items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * end[name], msg=name)
    assert (tmp_path / "half" / "tokenizer.json").read_text() == "{}"
    report = read_json(tmp_path / "half.json")
    assert report["ratio"] == 0.25
    assert report["sha256"]["interpolated"] == sha256_of(tmp_path / "half" / "model.safetensors")


def test_the_ends_are_the_two_models_and_tied_weights_stay_tied(model_folder, trained, tmp_path):
    interpolated_model(model_folder, trained, 1.0, tmp_path / "end")
    ends = [
        dict(AutoModelForCausalLM.from_pretrained(f).named_parameters()) for f in (trained, tmp_path / "end")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "end")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_another_architecture_is_refused(model_folder, tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"can't be interpolated: they differ in the tensor"):
        interpolated_model(model_folder, tmp_path / "other", 0.5, tmp_path / "half")
    assert not (tmp_path / "half").exists()
