"""source: random, and what all sources share: the saved folder and its report."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.digest import plain
from cpt.errors import UserError
from cpt.model.checks import check_context, check_loss, describe
from cpt.model.folder import load_folder
from cpt.model.tiny import byte_characters, byte_tokenizer, load_random
from cpt.stage import arguments

SCRIPT = Path(__file__).parents[2] / "scripts" / "base_model.py"


def test_script_gives_the_same_bytes_twice_and_a_full_report(tmp_path, source, import_base):
    files = {"model": tmp_path / "one", "report": tmp_path / "one.json", "log": tmp_path / "log"}
    command = [sys.executable, SCRIPT, *arguments(source=source, sequence_length=128, code="abc", **files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again, _ = import_base(source)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (again / name).read_bytes(), name
    report = json.loads((tmp_path / "one.json").read_text())
    assert report["source"] == plain(source)
    layer = 4 * 32 * 32 + 3 * 32 * 128 + 2 * 32  # attention, feed-forward, two norms
    assert report["parameters_without_embeddings"] == 2 * layer + 32
    assert report["parameters"] == 2 * layer + 32 + 257 * 32
    assert report["context_length"] == 256 and report["vocab_size"] == 257 and report["eos_token_id"] == 256
    assert report["tied"] is True and report["dtype"] == "float32" and report["repairs"] == []
    assert report["uniform_loss"] == round(math.log(257), 6)
    assert abs(report["loss_on_known_text"] - report["uniform_loss"]) < 0.3
    assert report["architecture"] == "LlamaForCausalLM"
    assert report["provenance"]["code_digest"] == "abc" and report["provenance"]["seeds"] == {"weights": 0}


def test_another_seed_gives_other_weights(source, tiny):
    other = load_random(source.model_copy(update={"seed": 1}))
    assert not torch.equal(tiny.model.lm_head.weight, other.model.lm_head.weight)


def test_random_weights_leave_the_global_generator_alone(source):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    load_random(source)
    assert torch.equal(torch.rand(1), expected)


def test_saved_folder_loads_with_the_auto_classes(tiny, folder, logits):
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(model), logits(tiny.model))
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert AutoTokenizer.from_pretrained(folder)("é")["input_ids"] == list("é".encode())


def test_byte_tokenizer_ids_are_the_bytes():
    tokenizer = byte_tokenizer()
    text = "".join(map(chr, range(256))) + " \n\t漢字😀  x"
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text
    assert tokenizer.token_to_id("<|endoftext|>") == 256
    assert set(byte_characters()) == set(ByteLevel.alphabet())


def test_sequences_longer_than_the_context_are_refused(tmp_path, source, import_base):
    with pytest.raises(UserError, match="sequence_length: 257 is over the model's context of 256 tokens"):
        import_base(source, sequence_length=257)
    assert list(tmp_path.iterdir()) == []
    check_context(load_random(source).model.config, 256)


def test_a_model_that_only_guesses_is_refused(tmp_path, folder, import_base):
    with pytest.raises(UserError, match=r"nats per token on ordinary English; .* tie_word_embeddings"):
        import_base({"source": "local", "path": str(folder)})
    assert list(tmp_path.iterdir()) == [folder]


def test_loss_gate_is_at_six_tenths_of_the_uniform_loss():
    check_loss(5.99, 6.0)
    for loss in (6.0, math.nan):
        with pytest.raises(UserError, match=r"guessing gives 10\.00"):
            check_loss(loss, 6.0)


def test_describe_counts_untied_matrices_both(folder, edit_json):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 2
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", tie_word_embeddings=False)
    report = describe(folder, load_folder(folder).model)
    assert report["tied"] is False
    assert report["parameters"] - report["parameters_without_embeddings"] == 2 * 257 * 32


def test_a_tokenizer_of_another_model_is_refused(tiny, tmp_path):
    tiny.model.resize_token_embeddings(200)
    with pytest.raises(UserError, match=r"ids up to 256, but the embedding only 200 rows .*one release"):
        tiny.save(tmp_path / "model")
