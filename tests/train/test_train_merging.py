"""Sums of models: interpolation, soups, a difference added to a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from choose_summands import choose_summands
from cpt.errors import UserError
from cpt.evaluate.bits import bits_per_byte
from cpt.files import read_json, write_json
from cpt.model.loaded import fast_tokenizer
from cpt.model.tiny import END_OF_TEXT, byte_tokenizer
from cpt.model_folders import weights_digest
from cpt.token_windows import HeldOut
from cpt.train import merging
from cpt.train.continuation import point_folder
from cpt.train.merging import merged_model
from merge import merge

SIZES = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 64}
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}{% endfor %}"


@pytest.fixture(autouse=True)
def one_thread():
    """As Snakemake gives the rule; on a busy machine, several threads wait for each other at each block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save(folder: Path, seed: int, dtype=torch.float32, shard="1GB", template=None, **settings) -> Path:
    """A folder with random weights and a tokenizer."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "eos_token_id": 256, **settings}))
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    backend = byte_tokenizer()
    backend.add_special_tokens(["<|im_end|>"])
    tokenizer = fast_tokenizer(backend, {"eos_token": END_OF_TEXT, "chat_template": template}, 64)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A trained run in three shards, a plain model in bfloat16, and an instruct variant of the plain one."""
    root = tmp_path_factory.mktemp("models")
    instruct = save(root / "instruct", 3, torch.bfloat16, template=TEMPLATE, bos_token_id=255)
    settings = read_json(instruct / "generation_config.json")
    write_json(instruct / "generation_config.json", settings | {"eos_token_id": [256, 257]})
    return {
        "run": save(root / "run", 1, shard="40KB"),
        "plain": save(root / "plain", 2, torch.bfloat16),
        "instruct": instruct,
    }


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def test_a_difference_is_added_exactly(models, tmp_path, monkeypatch):
    """In float64, rounded once, whatever the size of the blocks."""
    coefficients = {"run": 1.0, "instruct": 0.7, "plain": -0.7}
    folders = [models[name] for name in coefficients]
    for block in (1000, 2**20):
        monkeypatch.setattr(merging, "BLOCK", block)
        merge("chat", folders, tmp_path / "chat", tmp_path / "chat.json", coefficients)
        run, instruct, plain, chat = (tensors(folder) for folder in (*folders, tmp_path / "chat"))
        assert chat.keys() == run.keys()
        for name, tensor in chat.items():
            expected = run[name].double() + 0.7 * instruct[name].double() + -0.7 * plain[name].double()
            assert tensor.dtype == torch.float32 and torch.equal(tensor, expected.float()), name
    assert len(list((tmp_path / "chat").glob("*.safetensors"))) > 2
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "chat")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    report = read_json(tmp_path / "chat.json")
    assert report["coefficients"] == coefficients and report["template_and_tokenizer_of"] == "instruct"
    assert list(report["sha256"]) == ["run", "instruct", "plain", "chat"]
    assert report["sha256"]["chat"] == weights_digest(tmp_path / "chat")


def test_template_ends_and_token_ids_come_from_the_model_that_chats(models, tmp_path):
    merged_model("chat", models, {"run": 1.0, "plain": -1.0, "instruct": 1.0}, tmp_path / "chat")
    assert AutoTokenizer.from_pretrained(tmp_path / "chat").chat_template == TEMPLATE
    assert read_json(tmp_path / "chat" / "generation_config.json")["eos_token_id"] == [256, 257]
    config, run = (read_json(folder / "config.json") for folder in (tmp_path / "chat", models["run"]))
    assert config == run | {"bos_token_id": 255} and run["bos_token_id"] != 255
    # The first model's template, if the other's is subtracted or if the first has its own.
    assert merged_model("x", models, {"run": 3.0, "plain": -1.0, "instruct": -1.0}, tmp_path / "x") == "run"
    both = {"chat": tmp_path / "chat", "instruct": models["instruct"]}
    assert merged_model("y", both, {"chat": 0.5, "instruct": 0.5}, tmp_path / "y") == "chat"


def test_one_model_alone_gives_its_bytes(models, tmp_path):
    for name, folder in models.items():
        merged_model("copy", {name: folder}, {name: 1.0}, tmp_path / name)
        names = {path.name for path in folder.iterdir()}
        assert names == {path.name for path in (tmp_path / name).iterdir()}
        assert all((tmp_path / name / file).read_bytes() == (folder / file).read_bytes() for file in names)


@pytest.fixture
def trunk(models, tmp_path) -> Path:
    """A run whose end is `plain`, and which was `run` after 64 tokens."""
    folder = shutil.copytree(models["plain"], tmp_path / "trunk")
    shutil.copytree(models["run"], point_folder(folder, 64))
    return folder


def test_a_kept_state_of_a_run_is_summed_by_its_name(models, trunk, tmp_path):
    coefficients = {"trunk@64": 0.25, "trunk": 0.75}
    merge("mean", [trunk, trunk], tmp_path / "mean", tmp_path / "mean.json", coefficients)
    run, plain, mean = (tensors(folder) for folder in (models["run"], models["plain"], tmp_path / "mean"))
    for name, tensor in mean.items():
        assert torch.equal(tensor, (0.25 * run[name].double() + 0.75 * plain[name].double()).float())
    assert list(read_json(tmp_path / "mean.json")["sha256"]) == ["trunk@64", "trunk", "mean"]
    assert not (tmp_path / "mean" / "training_state").exists()


def test_a_greedy_mean_takes_the_models_that_lower_the_held_out_loss(models, trunk, tmp_path):
    """The mean excludes a model with large weights, whose predictions are bad."""
    far = save(tmp_path / "far", 5)
    changed_tensors(lambda weights: [tensor.mul_(9) for tensor in weights.values()])(far)
    text = np.random.default_rng(0).integers(0, 256, 300, np.uint32)
    held_out = HeldOut(text, np.array([100, 300]), np.array([100, 200]), 256)
    held_out.save(tmp_path / "text.npz")
    folders = {"far": far, "trunk": trunk, "trunk@64": trunk}
    settings = {
        "corpus": "law",
        "sequence_length": 32,
        "batch_size": 2,
        "precision": "float32",
        "device": "cpu",
    }
    files = {"held_out": tmp_path / "text.npz", "report": tmp_path / "soup.greedy.json"}
    choose_summands("soup", list(folders), list(folders.values()), **files, **settings)
    report = read_json(tmp_path / "soup.greedy.json")
    alone = {tried["models"][0]: tried["loss"] for tried in report["tried"][:3]}
    for name, folder in (("far", far), ("trunk", trunk), ("trunk@64", models["run"])):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert alone[name] == pytest.approx(bits_per_byte(model, held_out, 32, 2)["bits_per_byte"])
    assert (report["documents"], report["groups"], report["corpus"]) == (2, 2, "law")
    assert report["chosen"][0] == min(alone, key=alone.get) and "far" not in report["chosen"]
    merge(
        "soup",
        list(folders.values()),
        tmp_path / "soup",
        tmp_path / "soup.json",
        dict.fromkeys(folders, 1 / 3),
        tmp_path / "soup.greedy.json",
    )
    share = 1 / len(report["chosen"])
    assert read_json(tmp_path / "soup.json")["coefficients"] == dict.fromkeys(report["chosen"], share)
    soup = AutoModelForCausalLM.from_pretrained(tmp_path / "soup", dtype=torch.float32)
    assert bits_per_byte(soup, held_out, 32, 2)["bits_per_byte"] == pytest.approx(
        min(tried["loss"] for tried in report["tried"])
    )
    assert not list(tmp_path.glob(".soup*"))


def change_config(folder: Path) -> None:
    write_json(folder / "config.json", read_json(folder / "config.json") | {"rms_norm_eps": 0.5})


def change_token(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_end|>", "<|other|>"))


def change_pre_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    file.write_text(json.dumps(tokenizer))


def changed_tensors(change):
    """A function that changes a folder's weights."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return apply


NORM = "model.norm.weight"
UNLIKE = {
    "settings": (
        change_config,
        r"rms_norm_eps in config\.json is 1e-06 in plain and 0\.5 in other; all models",
    ),
    "token": (change_token, r"the token '<\|im_end\|>' has the id 257 in plain and None in other"),
    "pre-tokenizer": (change_pre_tokenizer, r"their tokenizers cut text differently \('pre_tokenizer' in"),
    "tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        r"other: no tokenizer\.json; expected a",
    ),
    "name": (changed_tensors(lambda t: t.pop(NORM)), rf"only plain has the tensor '{NORM}'"),
    "shape": (
        changed_tensors(lambda t: t.update({NORM: torch.ones(31)})),
        rf"the tensor '{NORM}' has the shape \[32\] in plain and \[31\] in other",
    ),
    "type": (
        changed_tensors(lambda t: t.update({NORM: torch.ones(32, dtype=torch.int8)})),
        rf"the tensor '{NORM}' has the type BF16 in plain and I8 in other",
    ),
    "infinite": (
        changed_tensors(lambda t: t.update({NORM: torch.full((32,), torch.inf)})),
        rf"runs\.half\.merge: the sum isn't finite in the tensor '{NORM}' \(torch\.bfloat16\); lower",
    ),
    "cut off": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-9]
        ),
        r"model\.safetensors: ends too early; remove the model, so that it is made again",
    ),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_unlike_models_are_refused_by_name(what, models, tmp_path):
    change, message = UNLIKE[what]
    other = shutil.copytree(models["plain"], tmp_path / "other")
    change(other)
    with pytest.raises(UserError, match=message) as caught:
        merged_model(
            "half",
            {"plain": models["plain"], "other": other},
            {"plain": 0.5, "other": 0.5},
            tmp_path / "half",
        )
    assert "runs.half.merge: " in str(caught.value) or str(other) in str(caught.value)
    assert not (tmp_path / "half").exists()


def test_counters_must_be_equal(models, tmp_path):
    folders = {name: shutil.copytree(models["plain"], tmp_path / name) for name in ("one", "two")}
    for number, folder in enumerate(folders.values()):
        changed_tensors(lambda weights: weights.update(count=torch.tensor([7, 8])))(folder)
        halves = {"one": 0.5, "two": 0.5}
        if number:
            merged_model("half", folders, halves, tmp_path / "half")
    assert tensors(tmp_path / "half")["count"].tolist() == [7, 8]
    changed_tensors(lambda weights: weights.update(count=torch.tensor([7, 9])))(folders["two"])
    with pytest.raises(UserError, match="one and two differ in the tensor 'count', whose type I64 can't be"):
        merged_model("half", folders, halves, tmp_path / "again")


def peak_bytes() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def test_memory_is_that_of_blocks_not_of_a_tensor(models, tmp_path, monkeypatch):
    """Three models with one matrix of 32 MB."""
    monkeypatch.setattr(merging, "BLOCK", 2**16)
    folders = {name: shutil.copytree(models["plain"], tmp_path / name) for name in "abc"}
    changed_tensors(lambda weights: weights.update(large=torch.ones(2**23)))(folders["a"])
    for name in "bc":
        (folders[name] / "model.safetensors").unlink()
        (folders[name] / "model.safetensors").hardlink_to(folders["a"] / "model.safetensors")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_bytes()
    merged_model("c", folders, {"a": 1.0, "b": 1.0, "c": -1.0}, tmp_path / "sum")
    assert peak_bytes() - before < 25e6
    assert torch.equal(tensors(tmp_path / "sum")["large"], torch.ones(2**23))
