"""source: local: native architecture, all weights, repairs special tokens, no foreign code."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpt.errors import UserError
from cpt.model.folder import load_folder

MOBILELLM = {
    "model_type": "mobilellm",
    "architectures": ["MobileLLMForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_mobilellm.MobileLLMForCausalLM"},
    "share_embedding": True,
    "layer_sharing": False,
    "tie_word_embeddings": False,
}


def test_a_saved_model_comes_back_equal(tiny, folder, logits):
    loaded = load_folder(folder)
    assert torch.equal(logits(loaded.model), logits(tiny.model))
    assert loaded.repairs == []
    assert loaded.tokenizer.eos_token_id == 256


def test_pickled_weights_are_read_as_tensors_only(tiny, folder, logits):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(logits(load_folder(folder).model), logits(tiny.model))


class Harm:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "beside weights"])
def test_a_pickle_that_runs_code_is_refused(folder, tmp_path, zipped, hidden):
    weights = load_file(folder / "model.safetensors") if hidden else {}
    weights["lm_head.weight"] = Harm(tmp_path / "harm")
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="more than tensors, which alone are read"):
        load_folder(folder)
    assert not (tmp_path / "harm").exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)  # otherwise the file would be harmless
    assert (tmp_path / "harm").exists()


def test_a_pickle_beside_good_safetensors_is_not_opened(tiny, folder, tmp_path, logits):
    torch.save({"lm_head.weight": Harm(tmp_path / "harm")}, folder / "pytorch_model.bin")
    assert torch.equal(logits(load_folder(folder).model), logits(tiny.model))
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"missing: model\.norm\.weight.*pytorch_model\*\.bin: can't be read"):
        load_folder(folder)
    assert not (tmp_path / "harm").exists()


def test_missing_weights_are_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.embed_tokens.weight"], weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(UserError) as error:
        load_folder(folder)
    assert "missing: " in str(error.value) and "model.embed_tokens.weight" in str(error.value)
    assert "model.layers.1.mlp.up_proj.weight" in str(error.value)
    assert "pytorch_model*.bin: can't be read" in str(error.value)


def test_unexpected_and_mismatched_weights_are_named(folder, edit_json):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {**weights, "model.extra.weight": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=r"unexpected: model\.extra\.weight"):
        load_folder(folder)
    save_file({**weights, "model.norm.weight": torch.ones(5)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"mismatched: model\.norm\.weight"):
        load_folder(folder)


def test_a_truncated_file_is_reported(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"\*\.safetensors: can't be read, incomplete"):
        load_folder(folder)


def test_mobilellm_is_read_as_a_tied_llama(tiny, folder, edit_json, logits):
    edit_json(folder / "config.json", **MOBILELLM)
    edit_json(folder / "tokenizer_config.json", bos_token="", eos_token="", unk_token="")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    for number, token in enumerate(("<unk>", "<s>", "</s>")):
        byte = next(name for name, i in vocabulary["model"]["vocab"].items() if i == number)
        vocabulary["model"]["vocab"].pop(byte)
        vocabulary["model"]["vocab"][token] = number
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    loaded = load_folder(folder)
    assert torch.equal(logits(loaded.model), logits(tiny.model))
    assert loaded.model.config.model_type == "llama" and loaded.model.config.tie_word_embeddings is True
    tokenizer = loaded.tokenizer
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len(loaded.repairs) == 4 and "eos_token was empty, is '</s>' (id 2)" in " ".join(loaded.repairs)
    assert "Noncommercial" in loaded.facts["licence"]


def test_layer_sharing_is_refused(folder, edit_json):
    edit_json(folder / "config.json", **{**MOBILELLM, "layer_sharing": True})
    with pytest.raises(UserError, match="layer_sharing is true"):
        load_folder(folder)


def test_foreign_architecture_is_refused_and_its_code_not_run(folder, tmp_path, edit_json):
    edit_json(folder / "config.json", **{**MOBILELLM, "model_type": "mymodel"})
    (folder / "modeling_mobilellm.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')")
    with pytest.raises(UserError, match="model_type 'mymodel' isn't a causal language model"):
        load_folder(folder)
    assert not (tmp_path / "harm").exists()


def test_a_tokenizer_without_eos_is_refused(folder, edit_json):
    edit_json(folder / "tokenizer_config.json", eos_token="")
    edit_json(folder / "config.json", eos_token_id=None)
    edit_json(folder / "generation_config.json", eos_token_id=None)
    with pytest.raises(UserError, match=r"tokenizer_config\.json: eos_token is empty"):
        load_folder(folder)


def test_an_empty_eos_token_is_the_one_that_the_config_names(folder, edit_json):
    edit_json(folder / "tokenizer_config.json", eos_token=None)
    loaded = load_folder(folder)
    assert loaded.tokenizer.eos_token == "<|endoftext|>"
    assert loaded.repairs == ["tokenizer: eos_token was empty, is '<|endoftext|>', id 256 in config.json"]


def test_a_broken_tokenizer_is_reported(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"tokenizer\.json: can't be read \(.*\); fetch it again, from the release"
    ):
        load_folder(folder)


def test_dropout_of_a_tokenizer_is_switched_off(folder, tmp_path):
    path = folder / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["model"]["dropout"] = 0.2
    path.write_text(json.dumps(definition))
    loaded = load_folder(folder)
    assert any("BPE dropout of 0.2 switched off" in repair for repair in loaded.repairs)
    loaded.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert not saved["model"]["dropout"]


def test_a_special_token_that_isnt_in_the_vocabulary_is_refused(folder, edit_json):
    edit_json(folder / "tokenizer_config.json", bos_token="<begin>")
    with pytest.raises(UserError, match="bos_token '<begin>' isn't in the tokenizer's vocabulary; correct"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"has no config\.json; .* fix base\.path or base\.repo"),
        ("model.safetensors", r"neither model\*\.safetensors nor pytorch_model.*; fetch the weights"),
        (
            "tokenizer.json",
            r"neither tokenizer\.json nor tokenizer\.model, nor vocab\.json with merges\.txt; fetch",
        ),
    ],
)
def test_missing_files_are_named(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(UserError, match=message):
        load_folder(folder)


def test_a_list_of_eos_ids_becomes_the_document_separator(folder, tmp_path, edit_json):
    edit_json(folder / "config.json", eos_token_id=[3, 256])
    loaded = load_folder(folder)
    loaded.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 256
    assert loaded.repairs == ["config.eos_token_id: 256 ('<|endoftext|>') instead of [3, 256]"]
