"""Architectures other than Llama through the same import, and from there into training."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.errors import UserError
from cpt.model.checks import check_dense, describe
from cpt.model.folder import load_folder
from cpt.model.loaded import fast_tokenizer
from cpt.model.tiny import END_OF_TEXT, byte_tokenizer
from cpt.train.losses import LossModel

SIZE = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": None,
}
LIKE = {  # a tiny config of the shape of each, and whether its matrices are tied
    "smollm2": ({"model_type": "llama", "tie_word_embeddings": True, "rope_theta": 100000.0}, True),
    "pythia": (
        {
            "model_type": "gpt_neox",
            "tie_word_embeddings": False,
            "rotary_pct": 0.25,
            "use_parallel_residual": True,
        },
        False,
    ),
    "qwen2": ({"model_type": "qwen2", "tie_word_embeddings": True, "rope_theta": 1000000.0}, True),
    "qwen3": ({"model_type": "qwen3", "tie_word_embeddings": False, "head_dim": 16}, False),
    "olmo": ({"model_type": "olmo", "tie_word_embeddings": True, "clip_qkv": None}, True),
    "olmo2": ({"model_type": "olmo2", "tie_word_embeddings": False}, False),
}
IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(1))


def save_random(folder, settings, dtype=torch.float32, **options):
    """Write a folder as authors publish it, with random weights; returns the model."""
    config = AutoConfig.for_model(**{**SIZE, **settings})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # biases and norms too
    model.to(dtype).save_pretrained(folder, **options)
    fast_tokenizer(byte_tokenizer(), {"eos_token": END_OF_TEXT}, 512).save_pretrained(folder)
    return model


def logits_of(model):
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("name", LIKE)
def test_an_architecture_is_imported_saved_and_trained(name, tmp_path):
    settings, tied = LIKE[name]
    source = save_random(tmp_path / "source", settings)
    loaded = load_folder(tmp_path / "source")
    assert loaded.repairs == []
    loaded.save(tmp_path / "base")
    report = describe(tmp_path / "base", loaded.model)
    assert report["tied"] is tied and report["dtype"] == "float32"
    assert report["restarted_positions_separate_documents"] is True
    assert report["parameters"] == sum(parameter.numel() for parameter in source.parameters())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    for key, weight in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], weight), key
    assert torch.equal(logits_of(model), logits_of(source))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied

    losses = []
    training = LossModel(model.train(), save_memory=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        loss = training(IDS, None, torch.ones(IDS[:, 1:].shape))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    expected = torch.nn.functional.cross_entropy(
        logits_of(source)[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="sum"
    )
    assert losses[0] == pytest.approx(expected.item(), rel=1e-5)
    assert losses[2] < losses[0] - 1


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "granite", "logits_scaling": 8.0},
        {"model_type": "cohere", "logit_scale": 0.0625},
        {"model_type": "gemma2", "head_dim": 8, "final_logit_softcapping": 30.0},
        {"model_type": "bert", "is_decoder": True},
    ],
    ids=lambda settings: settings["model_type"],
)
def test_logits_that_training_would_get_wrong_are_refused(settings, tmp_path):
    save_random(tmp_path / "source", settings)
    loaded = load_folder(tmp_path / "source")
    loaded.save(tmp_path / "base")
    with pytest.raises(UserError, match=f"{type(loaded.model).__name__} scales, caps or otherwise"):
        describe(tmp_path / "base", loaded.model)


@pytest.mark.parametrize(
    "settings", [{"model_type": "opt", "ffn_dim": 64}, {"model_type": "falcon"}], ids=str
)
def test_an_architecture_that_cant_keep_documents_apart_is_reported(settings, tmp_path):
    save_random(tmp_path / "source", {**settings, "word_embed_proj_dim": 32, "pad_token_id": 1})
    loaded = load_folder(tmp_path / "source")
    loaded.save(tmp_path / "base")
    report = describe(tmp_path / "base", loaded.model)
    assert report["restarted_positions_separate_documents"] is False


def test_a_folder_that_isnt_the_imported_model_is_refused(tmp_path):
    save_random(tmp_path / "source", LIKE["smollm2"][0])
    loaded = load_folder(tmp_path / "source")
    loaded.save(tmp_path / "base")
    other = copy.deepcopy(loaded.model)
    other.model.layers[0].self_attn.q_proj.weight.data[0, 0] += 1e-3
    with pytest.raises(UserError, match=r"isn't the same model .*layers\.0\.self_attn\.q_proj"):
        describe(tmp_path / "base", other)
    other = copy.deepcopy(loaded.model)
    other.model.norm.variance_epsilon = 1e-2  # as a wrongly saved config would
    with pytest.raises(UserError, match="other logits"):
        describe(tmp_path / "base", other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_weights_keep_their_type_whatever_the_config_says(dtype, tmp_path, edit_json):
    source = save_random(tmp_path / "source", LIKE["smollm2"][0], dtype)
    edit_json(tmp_path / "source" / "config.json", dtype="float16", torch_dtype="bfloat16")
    loaded = load_folder(tmp_path / "source")
    loaded.save(tmp_path / "base")
    assert describe(tmp_path / "base", loaded.model)["dtype"] == str(dtype).removeprefix("torch.")
    saved = load_file(tmp_path / "base" / "model.safetensors")
    for name, weight in saved.items():
        assert weight.dtype == dtype and torch.equal(weight, source.state_dict()[name])


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_mixed_types_are_read_in_one_that_holds_all(pickled, tmp_path):
    save_random(tmp_path / "source", LIKE["qwen2"][0], torch.bfloat16)
    weights = load_file(tmp_path / "source" / "model.safetensors")
    fine = torch.full_like(weights["model.norm.weight"], 1.0 + 2**-20, dtype=torch.float32)
    weights["model.norm.weight"] = fine
    if pickled:
        (tmp_path / "source" / "model.safetensors").unlink()
        torch.save(weights, tmp_path / "source" / "pytorch_model.bin")
    else:
        save_file(weights, tmp_path / "source" / "model.safetensors", {"format": "pt"})
    model = load_folder(tmp_path / "source").model
    assert model.dtype == torch.float32 and torch.equal(model.model.norm.weight, fine)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_shards_with_an_index_become_one_file(pickled, tmp_path):
    source = save_random(tmp_path / "source", LIKE["pythia"][0], max_shard_size="40KB")
    if pickled:
        pickle_shards(tmp_path / "source")
    loaded = load_folder(tmp_path / "source")
    loaded.save(tmp_path / "base")
    assert [path.name for path in (tmp_path / "base").glob("model*")] == ["model.safetensors"]
    assert torch.equal(logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "base")), logits_of(source))
    missing = sorted((tmp_path / "source").glob("*-00002-of-*"))[0]
    missing.unlink()
    with pytest.raises(UserError, match="can't be used"):
        load_folder(tmp_path / "source")


def pickle_shards(folder):
    """The same shards and index as pytorch_model*.bin."""
    for shard in sorted(folder.glob("model-*.safetensors")):
        torch.save(
            load_file(shard),
            folder / shard.name.replace("model-", "pytorch_model-").replace("safetensors", "bin"),
        )
        shard.unlink()
    index = folder / "model.safetensors.index.json"
    text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
    (folder / "pytorch_model.bin.index.json").write_text(text)
    index.unlink()


def test_buffers_that_old_checkpoints_hold_are_no_obstacle(tmp_path):
    source = save_random(tmp_path / "source", LIKE["pythia"][0])
    weights = load_file(tmp_path / "source" / "model.safetensors")
    for layer in range(2):
        name = f"gpt_neox.layers.{layer}.attention"
        weights |= {
            f"{name}.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
            f"{name}.masked_bias": torch.tensor(-1e9),
            f"{name}.rotary_emb.inv_freq": torch.ones(4),
        }
    (tmp_path / "source" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "source" / "pytorch_model.bin")
    assert torch.equal(logits_of(load_folder(tmp_path / "source").model), logits_of(source))


def test_quantised_and_contextless_models_are_refused(tmp_path, edit_json):
    save_random(tmp_path / "source", LIKE["smollm2"][0])
    edit_json(tmp_path / "source" / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(UserError, match="the weights are quantised"):
        load_folder(tmp_path / "source")
    shutil.rmtree(tmp_path / "source")
    save_random(tmp_path / "source", {"model_type": "bloom"})  # has relative positions only
    edit_json(tmp_path / "source" / "config.json", max_position_embeddings=None)
    with pytest.raises(
        UserError, match=r"'bloom' has no max_position_embeddings, .* choose another base model"
    ):
        load_folder(tmp_path / "source")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model_type": "mixtral", "num_local_experts": 2},
            r"mixtral has 2 experts \(num_local_experts in its config\.json\).*dense model",
        ),
        (
            {"model_type": "qwen3_moe", "num_experts": 3, "moe_intermediate_size": 16, "head_dim": 16},
            r"qwen3_moe has 3 experts",
        ),
    ],
    ids=["mixtral", "qwen3_moe"],
)
def test_a_mixture_of_experts_is_refused(settings, message, tmp_path):
    save_random(tmp_path / "source", settings)
    with pytest.raises(UserError, match=message):
        check_dense(load_folder(tmp_path / "source").model)


@pytest.mark.parametrize("name", LIKE)
def test_a_dense_model_is_no_mixture_of_experts(name):
    check_dense(AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**SIZE, **LIKE[name][0]})))
