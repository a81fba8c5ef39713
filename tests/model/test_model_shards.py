"""Models above the size of one file: several files with an index, wherever weights are read."""

import json

import pytest
import torch
from tests.model.gguf_folders import logits, saved
from transformers import AutoModelForCausalLM

from cpt import model_folders
from cpt.errors import UserError
from cpt.evaluate.model import load_model
from cpt.files import sha256_of
from cpt.model.folder import load_folder
from cpt.model_folders import open_weights, weights, weights_digest
from cpt.train.results import save_model


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The same model in one file, as training writes it, and in several."""
    model = saved(tmp_path / "start", {"model_type": "llama"})
    state = dict(model.named_parameters())
    save_model(state, tmp_path / "start", tmp_path / "one")
    monkeypatch.setattr("cpt.train.results.SHARD_BYTES", 100_000)
    save_model(state, tmp_path / "start", tmp_path / "several")
    return tmp_path / "one", tmp_path / "several"


def test_results_of_training_are_split_above_the_limit(folders):
    one, several = folders
    assert model_folders.SHARD_BYTES == 5_000_000_000
    assert [name.name for name in weights(one)] == ["model.safetensors"]
    index, *files = [name.name for name in weights(several)]
    assert index == "model.safetensors.index.json" and len(files) > 2
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert all((several / name).stat().st_size < 110_000 for name in files)
    assert {path.name for path in one.iterdir()} - {"model.safetensors"} == {
        path.name for path in several.iterdir()
    } - {index, *files}


def test_all_readers_find_the_same_weights(folders):
    one, several = folders
    with open_weights(one) as first, open_weights(several) as second:
        assert set(first) == set(second)
        for name in first:
            assert torch.equal(first[name].get_tensor(name), second[name].get_tensor(name))
    scored = [load_model(folder, "float32", 1, "cpu")[0] for folder in folders]
    imported = [load_folder(folder).model for folder in folders]
    first, *others = [
        logits(model) for model in (*scored, *imported, AutoModelForCausalLM.from_pretrained(several))
    ]
    assert all((first == other).all() for other in others)


def test_digests_cover_the_weights_and_nothing_else(folders):
    one, several = folders
    assert weights_digest(one) == sha256_of(one / "model.safetensors")
    digest = weights_digest(several)
    (several / "config.json").write_text("{}")
    assert weights_digest(several) == digest
    last = several / weights(several)[-1]
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    assert weights_digest(several) != digest


def test_a_missing_file_is_named(folders):
    one, several = folders
    (several / weights(several)[1]).unlink()
    with pytest.raises(
        UserError, match=r"several: no model-00001-of-\d+\.safetensors; expected a model folder"
    ):
        weights_digest(several)
    (one / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"one: no model\.safetensors"):
        load_model(one, "float32", 1, "cpu")


def test_files_that_the_index_does_not_name_are_no_part_of_the_model(folders):
    _, several = folders
    (several / "model-00009-of-00009.safetensors").write_bytes(b"of another save")
    index = json.loads((several / "model.safetensors.index.json").read_text())
    assert {name.name for name in weights(several)[1:]} == set(index["weight_map"].values())
