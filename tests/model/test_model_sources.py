"""The script on a folder and on a hub repository; test_model_tiny and test_model_gguf test other sources."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from cpt.errors import UserError
from cpt.model import sources


@pytest.fixture
def trained(tiny, learn, tmp_path):
    """A folder with a model that knows some English."""
    learn(tiny.model, tiny.tokenizer)
    tiny.save(tmp_path / "trained")
    return tmp_path / "trained"


def test_a_local_folder_becomes_the_base_model(tiny, trained, import_base, logits):
    folder, report = import_base({"source": "local", "path": str(trained)})
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(tiny.model))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes(), name
    assert report["source"]["path"] == str(trained) and report["repairs"] == []
    assert report["loss_on_known_text"] < 3


def test_a_repository_becomes_the_base_model(tiny, trained, import_base, logits, monkeypatch):
    (trained / "README.md").write_text("---\nlicense: apache-2.0\n---\n")

    def download(repo, revision, cache_dir, ignore_patterns):
        return shutil.copytree(trained, cache_dir / "snapshots" / "0123abcd")

    monkeypatch.setattr(sources, "snapshot_download", download)
    folder, report = import_base({"source": "hub", "repo": "team/model", "revision": "main"})
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(tiny.model))
    assert (report["revision"], report["licence"]) == ("0123abcd", "apache-2.0")


def test_a_missing_folder_is_reported(import_base, tmp_path):
    with pytest.raises(UserError, match=r"nowhere has no config\.json"):
        import_base({"source": "local", "path": str(tmp_path / "nowhere")})
    assert list(tmp_path.iterdir()) == []
