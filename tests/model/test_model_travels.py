"""What users need from the source's folder survives import, training, merging and release."""

import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tests.model.test_model_architectures import LIKE, logits_of, save_random
from tokenizers import AddedToken, Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

import release
from cpt.errors import UserError
from cpt.files import atomic
from cpt.model.checks import describe
from cpt.model.folder import load_folder
from cpt.model.loaded import fast_tokenizer
from cpt.model.tiny import END_OF_TEXT, byte_tokenizer
from cpt.model_folders import companions
from cpt.train.merging import merged_model
from cpt.train.results import save_model

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>\n{% endfor %}"
TOOLS = "{% for m in messages %}tool {{ m['content'] }}{% endfor %}"


@pytest.fixture
def published(tmp_path, edit_json):
    """Write a folder as authors publish it: tokens beyond the 256 bytes and <|endoftext|>, and JSON keys."""

    def write(tokens=(), config=None, tokenizer=None, generation=None, name="source", vocab_size=None):
        folder = tmp_path / name
        size = {"vocab_size": vocab_size or 257 + len(tokens)}
        save_random(folder, {**LIKE["smollm2"][0], **size})
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        backend.add_special_tokens([AddedToken(token, special=True) for token in tokens])
        backend.save(str(folder / "tokenizer.json"))
        edit_json(folder / "config.json", **(config or {}))
        edit_json(folder / "tokenizer_config.json", **(tokenizer or {}))
        (folder / "generation_config.json").unlink()
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        return folder

    return write


def imported(folder, target):
    with atomic(target) as temporary:
        loaded = load_folder(folder)
        loaded.save(temporary)
    return loaded


def read(path):
    return json.loads(path.read_text())


IM_END = {"tokens": ("<|im_start|>", "<|im_end|>")}  # ids 257 and 258
# Separator and ends of generation by what a folder says; more families are in test_model_imports.
FAMILIES = {
    "chat tokenizer over a base config": (
        {**IM_END, "config": {"eos_token_id": 256}, "tokenizer": {"eos_token": "<|im_end|>"}},
        256,
        [256, 258],
    ),
    "SmolLM2-Instruct": (
        {
            **IM_END,
            "config": {"eos_token_id": 258},
            "tokenizer": {"eos_token": "<|im_end|>", "chat_template": TEMPLATE},
            "generation": {"eos_token_id": 258},
        },
        256,
        [256, 258],
    ),
    "Qwen3": (
        {
            **IM_END,
            "config": {"eos_token_id": 258},
            "tokenizer": {"eos_token": "<|im_end|>"},
            "generation": {"eos_token_id": [258, 256], "top_k": 20},
        },
        256,
        [256, 258],
    ),
    "Llama-3.2-Instruct": (
        {
            "tokens": ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
            "config": {"eos_token_id": [257, 258, 259]},
            "tokenizer": {"eos_token": "<|eot_id|>"},
            "generation": {"eos_token_id": [257, 258, 259]},
        },
        257,
        [257, 258, 259],
    ),
    "a turn that only the template shows": (
        {
            "tokens": ("<stop>", "<other>"),
            "config": {"eos_token_id": 257},
            "tokenizer": {"eos_token": "<stop>", "chat_template": "{{ messages[0]['content'] }}<stop>"},
        },
        256,
        [256, 257],
    ),
    "EXAONE": (
        {
            "tokens": ("[|endofturn|]",),
            "config": {"eos_token_id": 257},
            "tokenizer": {"eos_token": "[|endofturn|]"},
        },
        256,
        [256, 257],
    ),
    "an id that the tokenizer lacks": ({"config": {"eos_token_id": 999}}, 256, 256),
    "only in generation_config": (
        {
            "config": {"eos_token_id": None},
            "tokenizer": {"eos_token": None},
            "generation": {"eos_token_id": 256},
        },
        256,
        256,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_separator_and_ends_of_generation(name, published, tmp_path):
    settings, separator, ends = FAMILIES[name]
    loaded = imported(published(**settings), tmp_path / "base")
    base = tmp_path / "base"
    assert read(base / "config.json")["eos_token_id"] == separator
    assert AutoTokenizer.from_pretrained(base).eos_token_id == separator
    generation = read(base / "generation_config.json")
    assert generation["eos_token_id"] == ends
    assert generation.get("top_k") == settings.get("generation", {}).get("top_k")
    assert list(loaded.facts["ends_of_generation"].values()) == (ends if isinstance(ends, list) else [ends])
    assert loaded.facts["document_separator"] == PreTrainedTokenizerFast.from_pretrained(base).eos_token


def test_eos_that_only_special_tokens_map_names_is_read(published, tmp_path):
    source = published(config={"eos_token_id": None}, tokenizer={"eos_token": None})
    (source / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|endoftext|>"}}')
    imported(source, tmp_path / "base")
    assert AutoTokenizer.from_pretrained(tmp_path / "base").eos_token_id == 256


def everywhere(source, tmp_path):
    """The folders of the imported, a trained, a merged and a reimported model."""
    imported(source, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    save_model(dict(model.named_parameters()), tmp_path / "base", tmp_path / "trained")
    halves = {"trained": 0.5, "base": 0.5}
    merged_model("between", {name: tmp_path / name for name in halves}, halves, tmp_path / "between")
    imported(tmp_path / "trained", tmp_path / "again")
    return [tmp_path / name for name in ("base", "trained", "between", "again")]


def place_template(source, place, edit_json):
    if place == "string":
        edit_json(source / "tokenizer_config.json", chat_template=TEMPLATE)
    elif place == "file":
        (source / "chat_template.jinja").write_text(TEMPLATE)
    elif place == "named":
        templates = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": TOOLS}]
        edit_json(source / "tokenizer_config.json", chat_template=templates)
    else:
        (source / "chat_template.jinja").write_text(TEMPLATE)
        (source / "additional_chat_templates").mkdir()
        (source / "additional_chat_templates" / "tool_use.jinja").write_text(TOOLS)


@pytest.mark.parametrize("place", ["string", "file", "named", "folder"])
def test_templates_and_settings_travel(place, published, tmp_path, edit_json):
    source = published(
        **IM_END,
        tokenizer={"padding_side": "left", "eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"},
        generation={
            **{"_from_model_config": True, "output_attentions": False, "eos_token_id": [258, 256]},
            **{"temperature": 0.6, "do_sample": True},
        },
    )
    place_template(source, place, edit_json)
    (source / "LICENSE").write_text("text")
    (source / "modeling_own.py").write_text("raise")
    (source / "README.md").write_text("the start's card")
    (source / "onnx").mkdir()
    for name in ("model.onnx", "config.json"):
        (source / "onnx" / name).write_text("{}")
    (source / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    names = ["default", "tool_use"] if place in ("named", "folder") else ["default"]
    for folder in everywhere(source, tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.padding_side == "left" and tokenizer.eos_token_id == 256
        for name in names:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": "hi"}],
                tokenize=False,
                **({"chat_template": name} if name != "default" else {}),
            )
            assert text == ("<|im_start|>hi<|im_end|>\n" if name == "default" else "tool hi")
        generation = read(folder / "generation_config.json")
        assert generation["eos_token_id"] == [256, 258] and generation["temperature"] == 0.6
        assert not [key for key in generation if key.startswith(("_", "output_"))]
        assert GenerationConfig.from_pretrained(folder).eos_token_id == [256, 258]
        assert read(folder / "special_tokens_map.json") == {"eos_token": "<|endoftext|>"}
        assert read(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert (folder / "LICENSE").read_text() == "text"
        assert not {"modeling_own.py", "README.md", "onnx"} & {path.name for path in folder.iterdir()}
        text = "x = 12 <|im_end|> é"
        assert (
            tokenizer(text)["input_ids"]
            == Tokenizer.from_file(str(source / "tokenizer.json")).encode(text).ids
        )


def test_released_folder_has_all_of_it_and_leaves_the_models_own_alone(published, tmp_path, monkeypatch):
    source = published(**IM_END)
    place_template(source, "folder", None)
    (source / "LICENSE").write_text("text")
    imported(source, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("another card")
    (empty := tmp_path / "empty.json").write_text("{}")
    settings = SimpleNamespace(base=SimpleNamespace(license="apache-2.0"))
    for name, value in (("load", settings), ("read_scores", []), ("model_card", "card")):
        monkeypatch.setattr(release, name, lambda *_, value=value: value)
    release.release("run", tmp_path / "model", *[empty] * 3, [empty], tmp_path / "released")
    folders = (tmp_path / "model", tmp_path / "released")
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in folders]
    assert names[0] == names[1]
    assert Path("additional_chat_templates/tool_use.jinja") in names[1]
    assert [(folder / "README.md").read_text() for folder in folders] == ["another card", "card"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_all_files_follow_the_umask(mask, published, tmp_path):
    source = published()
    former_mask = os.umask(mask)
    try:
        folders = everywhere(source, tmp_path)
    finally:
        os.umask(former_mask)
    modes = {stat.S_IMODE(path.stat().st_mode) for folder in folders for path in folder.iterdir()}
    assert modes == {0o666 & ~mask}


def test_companions_are_all_but_what_is_written_new(tmp_path):
    for name in (
        "a.jinja",
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        ".hidden",
        "x/y.txt",
        "b.txt",
        "x/y.jinja",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(companions(tmp_path)) == [Path("a.jinja"), Path("b.txt"), Path("x/y.jinja")]


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neo"])
def test_old_buffers_are_ignored_and_listed(kind, tmp_path):
    settings = {
        "model_type": kind,
        "hidden_size": 32,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
    }
    settings |= {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    source = save_random(tmp_path / "source", settings)
    weights = load_file(tmp_path / "source" / "model.safetensors")
    inner = "attn.attention" if kind == "gpt_neo" else "attn"
    for layer in range(2):
        name = f"transformer.h.{layer}.{inner}"
        weights |= {
            f"{name}.bias": torch.ones(1, 1, 64, 64, dtype=torch.uint8),
            f"{name}.masked_bias": torch.tensor(-1e9),
        }
    (tmp_path / "source" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "source" / "pytorch_model.bin")
    loaded = load_folder(tmp_path / "source")
    assert torch.equal(logits_of(loaded.model), logits_of(source))
    assert "buffers of an older transformers ignored" in loaded.repairs[0]
    weights["transformer.h.0.attn.bias"] = torch.ones(32)  # a bias, by its shape
    weights["transformer.h.0.attention.bias"] = torch.ones(32)
    torch.save(weights, tmp_path / "source" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"unexpected: transformer\.h\.0\.att"):
        load_folder(tmp_path / "source")


def test_special_tokens_beyond_the_embedding_are_kept_where_text_never_becomes_one(published, tmp_path):
    source = published(("<image>",), vocab_size=257)
    loaded = imported(source, tmp_path / "base")
    assert any("'<image>' beyond the embedding of 257 ids" in line for line in loaded.repairs)
    assert AutoTokenizer.from_pretrained(tmp_path / "base").convert_tokens_to_ids("<image>") == 257
    source = published(("<go>",), vocab_size=257, tokenizer={"bos_token": "<go>"}, name="other")
    with pytest.raises(UserError, match=r"'<go>' \(id 257\) was added to the tokenizer, but .* 257 rows"):
        imported(source, tmp_path / "base")


def test_run_time_keys_of_config_json_are_dropped(published, edit_json):
    source = published()
    expected = logits_of(AutoModelForCausalLM.from_pretrained(source))
    edit_json(
        source / "config.json",
        **{"attn_implementation": "flash_attention_2", "output_attentions": True, "return_dict": False},
    )
    assert torch.equal(logits_of(load_folder(source).model), expected)


def test_added_tokens_outside_tokenizer_json_get_their_ids(published, tmp_path):
    source = published(vocab_size=260)
    (source / "added_tokens.json").write_text('{"<|im_end|>": 257, "<|pad|>": 258}')
    loaded = imported(source, tmp_path / "base")
    assert any("2 added tokens" in line for line in loaded.repairs)
    assert AutoTokenizer.from_pretrained(tmp_path / "base").convert_tokens_to_ids("<|pad|>") == 258
    (source / "added_tokens.json").write_text('{"<|im_end|>": 259}')
    with pytest.raises(
        UserError, match=r"'<\|im_end\|>' should have id 259, but the tokenizer's next id is 257"
    ):
        load_folder(source)


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64},
        {"model_type": "gptj", "n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64, "rotary_dim": 4},
        {
            "model_type": "codegen",
            "n_embd": 32,
            "n_head": 4,
            "n_layer": 1,
            "n_positions": 64,
            "rotary_dim": 4,
        },
        {"model_type": "gpt_bigcode", "n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64},
    ],
    ids=lambda settings: settings["model_type"],
)
def test_context_is_known_whatever_config_json_calls_it(settings, tmp_path):
    """plan_run reads it from this report."""
    sizes = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**sizes, **settings))
    model.save_pretrained(tmp_path / "source")
    fast_tokenizer(byte_tokenizer(), {"eos_token": END_OF_TEXT}, 64).save_pretrained(tmp_path / "source")
    loaded = imported(tmp_path / "source", tmp_path / "base")
    assert "max_position_embeddings" not in read(tmp_path / "base" / "config.json")
    assert describe(tmp_path / "base", loaded.model)["context_length"] == 64


ROTARY = {
    "smollm2": (LIKE["smollm2"][0], {"rope_theta": 100000.0}),
    "pythia": (LIKE["pythia"][0] | {"rotary_emb_base": 5e4}, {"rotary_emb_base": 5e4, "rotary_pct": 0.25}),
    "phi": (
        {"model_type": "phi", "partial_rotary_factor": 0.5, "rope_theta": 5e4},
        {"rope_theta": 5e4, "partial_rotary_factor": 0.5},
    ),
    "scaled": (
        {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "gemma3": (
        {"model_type": "gemma3_text", "head_dim": 8, "rope_theta": 5e5, "rope_local_base_freq": 2e4},
        {"rope_theta": 5e5, "rope_local_base_freq": 2e4},
    ),
}


@pytest.mark.parametrize("name", ROTARY)
def test_transformers_4_finds_the_rotary_base_where_it_looks(name, tmp_path):
    """Loading in 4.57.3 was tried by hand: docs/base-models.md."""
    settings, expected = ROTARY[name]
    source = save_random(tmp_path / "source", settings)
    for folder in everywhere(tmp_path / "source", tmp_path):
        config = read(folder / "config.json")
        assert {key: config.get(key) for key in expected} == expected
        assert torch.equal(logits_of(AutoModelForCausalLM.from_pretrained(folder)), logits_of(source))
