"""Released folders in the last transformers before 5: the same logits, ids, template and settings."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.model import older_transformers
from tests.model.conftest import TEMPLATES
from tests.model.gguf_folders import ODD, byte_pairs
from tests.model.test_model_architectures import save_random
from tokenizers import normalizers
from transformers import AutoModelForCausalLM

from cpt.files import atomic
from cpt.model.auto_tokenizer import auto_tokenizer_agrees
from cpt.model.folder import load_folder
from cpt.model.gguf_vocabulary import PATTERNS
from cpt.report.card_use import COMPARED, COMPARED_ROTARY, OLDER, needs
from cpt.train.results import save_model

OLDER_FOLDER = Path(sys.prefix) / "older"  # of `make test`
GPT2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 512}
CUTS = {name: cut for (cut, _), name in PATTERNS.items()}
BASE = {"rope_theta": 20_000.0}
HALF = BASE | {"partial_rotary_factor": 0.5}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 2.1, 2.2, 2.3]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
MODELS = {
    "llama": BASE,
    "mistral": BASE,
    "smollm3": BASE | {"num_hidden_layers": 4, "tie_word_embeddings": True},
    "qwen2": BASE | {"tie_word_embeddings": True},
    "qwen3": BASE | {"head_dim": 16},
    "gemma": BASE | {"head_dim": 8, "tie_word_embeddings": True},
    "gemma3_text": BASE
    | {"head_dim": 8, "num_hidden_layers": 6, "sliding_window": 16, "rope_local_base_freq": 30_000.0},
    "olmo": BASE,
    "olmo2": BASE,
    "phi": HALF,
    "phi3": BASE,
    "gpt_neox": {"rotary_pct": 0.25, "rotary_emb_base": 20_000},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "gpt2": GPT2,
    "gptj": GPT2 | {"rotary_dim": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": BASE,
    "bloom": {"n_head": 4, "n_layer": 2},
    "stablelm": HALF,
    "starcoder2": BASE | {"sliding_window": None},
    # rotary positions
    "llama linear": BASE | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama dynamic": BASE | {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "llama llama3": BASE | {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}},
    "qwen2 yarn": BASE | {"rope_scaling": YARN},
    "phi3 longrope": BASE | {"rope_scaling": LONG, "original_max_position_embeddings": 64},
    # not compared: the card says so
    "olmo3": BASE | {"num_hidden_layers": 4, "sliding_window": 16},
}
OTHERWISE = "olmo3"  # version 4 gives other logits, without an error
MESSAGES = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}]


def texts(count=400):
    """Texts with special strings, characters of all planes and runs of white space."""
    draw = random.Random(0)
    words = [
        *ODD.split(" "),
        "<|im_end|>",
        "<|endoftext|>",
        "[TOOL]",
        "\u3000",
        "\U0010ffff",
        "e\u0301",
        "\x00",
    ]
    parts = (
        "".join(draw.choice(words) + draw.choice(("", " ", "\n", "  ")) for _ in range(12))
        for _ in range(count)
    )
    return ["", " ", *parts]


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """What both versions report about a released folder of each model."""
    assert OLDER_FOLDER.is_dir(), f"{OLDER_FOLDER} isn't there: `make test` installs it"
    root = tmp_path_factory.mktemp("released")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    usual, qwen = byte_pairs("digits, bytes"), byte_pairs(CUTS["qwen2"], normalizer=normalizers.NFC())
    for name, settings in MODELS.items():
        source, base = root / "source" / name, root / "base" / name
        backend = qwen if name.startswith("qwen2") else usual  # version 5 has its own for this type
        kind = {"model_type": name.split(" ")[0], "vocab_size": backend.get_vocab_size()}
        kind |= {"bos_token_id": None, "eos_token_id": 0}
        save_random(source, kind | settings)
        backend.save(str(source / "tokenizer.json"))
        change = {"eos_token": "<|im_end|>", "chat_template": TEMPLATES["SmolLM2"], "padding_side": "left"}
        change |= {"pad_token": "<|endoftext|>"}
        config = json.loads((source / "tokenizer_config.json").read_text()) | change
        (source / "tokenizer_config.json").write_text(json.dumps(config))
        generation = {"do_sample": True, "temperature": 0.6, "eos_token_id": [2, 0]}
        (source / "generation_config.json").write_text(json.dumps(generation))
        with atomic(base) as folder:
            load_folder(source).save(folder)
        model = AutoModelForCausalLM.from_pretrained(base)
        save_model(dict(model.named_parameters()), base, root / "released" / name)
    folders = [root / "released" / name for name in MODELS]
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1)).tolist()
    questions = {"folders": list(map(str, folders)), "texts": texts(), "ids": ids, "messages": MESSAGES}
    (root / "questions.json").write_text(json.dumps(questions))
    for name in ("older", "current"):
        (root / name).mkdir()
    older_transformers.main(root / "questions.json", root / "current")
    torch.set_num_threads(threads)
    command = [sys.executable, older_transformers.__file__, root / "questions.json", root / "older"]
    environment = {**os.environ, "PYTHONPATH": str(OLDER_FOLDER)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    facts = {name: json.loads((root / name / "facts.json").read_text()) for name in ("older", "current")}
    return SimpleNamespace(root=root, **facts)


@pytest.mark.parametrize("name", MODELS)
def test_both_versions_read_the_same_model(name, versions):
    older, current = (np.load(versions.root / which / f"{name}.npy") for which in ("older", "current"))
    assert versions.older["version"].startswith(f"{OLDER}.") and versions.current["version"].startswith("5.")
    assert versions.older["folders"][name] == versions.current["folders"][name]
    difference, spread = np.abs(older - current).max(), current.std()
    config = json.loads((versions.root / "released" / name / "config.json").read_text())
    if name == OTHERWISE:
        assert difference > 0.1 * spread and needs(config).startswith(
            "Needs transformers 5: version 4.57 wasn't"
        )
    else:
        assert difference < 1e-5 * spread and needs(config).startswith("Loads in transformers 4.57 and 5")


def test_what_both_versions_say_is_what_the_source_said(versions):
    facts = versions.older["folders"]["llama"]
    assert facts["special"] == [None, 0, 0] and facts["ends"] == [0, 2]
    assert facts["sampling"] == [True, 0.6] and facts["side"] == "left"
    assert facts["chat"].endswith("<|im_start|>assistant\nGood day.<|im_end|>\n<|im_start|>assistant\n")
    assert len(facts["ids"]) > 400 and max(map(max, filter(None, facts["ids"]))) > 256


def test_no_folder_names_a_class_of_one_version_alone(versions):
    for name in MODELS:
        released = versions.root / "released" / name
        config = json.loads((released / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert "TokenizersBackend" not in (released / "tokenizer_config.json").read_text()


def test_a_tokenizer_that_version_5_replaces_is_noticed(versions, tmp_path):
    for name in ("llama", "qwen2", "qwen3"):
        assert auto_tokenizer_agrees(versions.root / "released" / name)
    shutil.copytree(versions.root / "released" / "qwen2", tmp_path / "odd")
    byte_pairs("digits, bytes").save(str(tmp_path / "odd" / "tokenizer.json"))
    assert not auto_tokenizer_agrees(tmp_path / "odd")


def test_what_the_card_promises_was_compared():
    assert set(COMPARED) == {name.split(" ")[0] for name in MODELS} - {OTHERWISE}
    rotary = {settings.get("rope_scaling", {}).get("rope_type", "default") for settings in MODELS.values()}
    assert rotary == COMPARED_ROTARY
    kind = {"model_type": "llama", "rope_parameters": {"rope_type": "proportional", "rope_theta": 1.0}}
    assert "wasn't compared with it for rotary positions of the type proportional" in needs(kind)
