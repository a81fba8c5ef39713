"""MobileLLM's published model, with its traps: the import computes the same as a separate definition."""

import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn.functional import linear, silu, softmax

from cpt.errors import UserError
from cpt.model.checks import describe
from cpt.model.folder import load_folder
from cpt.model.pieces import SPACE

# config.json as it is on the hub, smaller: tie_word_embeddings is false although the embedding is shared.
CONFIG = {
    "model_type": "mobilellm",
    "architectures": ["MobileLLMForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_mobilellm.MobileLLMConfig",
        "AutoModelForCausalLM": "modeling_mobilellm.MobileLLMForCausalLM",
    },
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "layer_sharing": False,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "share_embedding": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 350,
}


def random_weights():
    """Weights as the checkpoint names them, without lm_head.weight; large enough for logits that differ."""
    generator = torch.Generator().manual_seed(0)
    size, heads = CONFIG["hidden_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * heads, CONFIG["num_key_value_heads"] * heads
    shapes = {"model.embed_tokens.weight": (CONFIG["vocab_size"], size), "model.norm.weight": (size,)}
    for layer in range(CONFIG["num_hidden_layers"]):
        names = {
            "input_layernorm": (size,),
            "post_attention_layernorm": (size,),
            "self_attn.q_proj": (queries, size),
            "self_attn.k_proj": (keys, size),
            "self_attn.v_proj": (keys, size),
            "self_attn.o_proj": (size, queries),
            "mlp.gate_proj": (CONFIG["intermediate_size"], size),
            "mlp.up_proj": (CONFIG["intermediate_size"], size),
            "mlp.down_proj": (size, CONFIG["intermediate_size"]),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    weights = {name: 0.15 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: weight + (weight.ndim == 1) for name, weight in weights.items()}  # norms are around 1


def rms_norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]).sqrt() * weight


def rotate(x):
    """Rotary positions, [tokens, heads, size]: dimension i turns with dimension i + size / 2."""
    tokens, _, size = x.shape
    frequencies = CONFIG["rope_theta"] ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(tokens), frequencies)[:, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), dim=-1
    )


def definition(weights, ids):
    """Logits [tokens, vocabulary] by MobileLLM's definition (Liu et al. 2024): a pre-norm Llama with grouped
    queries and SwiGLU, whose output is F.linear(h, embedding)."""
    heads, groups = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    hidden = weights["model.embed_tokens.weight"][ids]
    mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
    for layer in range(CONFIG["num_hidden_layers"]):
        layer_weights = {name.split(f"layers.{layer}.")[-1]: weight for name, weight in weights.items()}
        x = rms_norm(hidden, layer_weights["input_layernorm.weight"])
        queries, keys, values = (
            linear(x, layer_weights[f"self_attn.{name}_proj.weight"]).unflatten(-1, (-1, CONFIG["head_dim"]))
            for name in "qkv"
        )
        queries, keys = rotate(queries), rotate(keys)
        keys, values = (part.repeat_interleave(heads // groups, dim=1) for part in (keys, values))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / CONFIG["head_dim"] ** 0.5 + mask
        mixed = torch.einsum("hqk,khd->qhd", softmax(scores, dim=-1), values).flatten(1)
        hidden = hidden + linear(mixed, layer_weights["self_attn.o_proj.weight"])
        x = rms_norm(hidden, layer_weights["post_attention_layernorm.weight"])
        gate, up = (linear(x, layer_weights[f"mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        hidden = hidden + linear(silu(gate) * up, layer_weights["mlp.down_proj.weight"])
    return linear(rms_norm(hidden, weights["model.norm.weight"]), weights["model.embed_tokens.weight"])


@pytest.fixture
def weights():
    return random_weights()


@pytest.fixture
def mobilellm(tmp_path, weights, sentencepiece_model):
    """A folder like the one on the hub: pickled weights, tokenizer.model, empty special tokens, own code."""
    folder = tmp_path / "mobilellm"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    special = {"bos_token": "", "eos_token": "", "unk_token": "", "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    (folder / "tokenizer.model").write_bytes(sentencepiece_model().read_bytes())
    torch.save(weights, folder / "pytorch_model.bin")
    harm = f"open({str(tmp_path / 'harm')!r}, 'w')"
    (folder / "modeling_mobilellm.py").write_text(harm)
    (folder / "configuration_mobilellm.py").write_text(harm)
    return folder


def assert_as_defined(loaded, weights):
    ids = torch.randint(3, CONFIG["vocab_size"], (200,), generator=torch.Generator().manual_seed(1))
    expected = definition(weights, ids)
    with torch.inference_mode():
        computed = loaded.model.eval()(input_ids=ids[None]).logits[0]
    assert expected.std() > 0.5  # otherwise anything is close
    torch.testing.assert_close(computed, expected, atol=1e-5, rtol=1e-5)


def test_logits_are_those_of_the_definition(mobilellm, weights, tmp_path):
    loaded = load_folder(mobilellm)
    assert_as_defined(loaded, weights)
    loaded.save(tmp_path / "out")
    report = describe(tmp_path / "out", loaded.model)
    assert report["architecture"] == "LlamaForCausalLM" and report["tied"] is True
    assert report["parameters"] == sum(weight.numel() for weight in weights.values())
    assert report["dtype"] == "float32"  # the file's; config.json's float16 would round
    assert_as_defined(load_folder(tmp_path / "out"), weights)
    assert not (tmp_path / "harm").exists()
    assert not list((tmp_path / "out").glob("*.py"))


def test_repairs_are_reported(mobilellm):
    loaded = load_folder(mobilellm)
    tokenizer = loaded.tokenizer
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert "Noncommercial" in loaded.facts["licence"]
    repairs = "\n".join(loaded.repairs)
    for part in ("read as llama, with tie_word_embeddings true", "made from SentencePiece's tokenizer.model"):
        assert part in repairs
    for token in ("bos_token was empty, is '<s>' (id 1)", "eos_token was empty, is '</s>' (id 2)"):
        assert token in repairs
    assert len(loaded.repairs) == 5


def test_safetensors_without_embeddings_beside_a_good_bin(mobilellm, weights):
    """A bot on the hub made such files: with them, the embedding would be random."""
    incomplete = {name: weight for name, weight in weights.items() if "embed_tokens" not in name}
    save_file(incomplete, mobilellm / "model.safetensors", {"format": "pt"})
    loaded = load_folder(mobilellm)
    assert_as_defined(loaded, weights)
    (repair,) = [line for line in loaded.repairs if line.startswith("weights: ")]
    assert (
        "read from pytorch_model.bin, as model*.safetensors: missing: " in repair and "embed_tokens" in repair
    )
    (mobilellm / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"\*\.safetensors: missing: .*embed_tokens"):
        load_folder(mobilellm)


def test_without_the_repaired_config_the_head_would_be_random(mobilellm, weights, edit_json):
    edit_json(mobilellm / "config.json", share_embedding=False)
    with pytest.raises(UserError, match=r"missing: lm_head\.weight.* check tie_word_embeddings"):
        load_folder(mobilellm)


def test_a_head_that_contradicts_the_shared_embedding_is_refused(mobilellm, weights):
    head = torch.randn_like(weights["model.embed_tokens.weight"])
    torch.save({**weights, "lm_head.weight": head}, mobilellm / "pytorch_model.bin")
    with pytest.raises(UserError, match="tie_word_embeddings is true, but there is an output matrix other"):
        load_folder(mobilellm)


def test_the_saved_tokenizer_gives_the_ids_of_sentencepiece(mobilellm, tmp_path):
    load_folder(mobilellm).save(tmp_path / "out")
    source = sentencepiece.SentencePieceProcessor(model_file=str(mobilellm / "tokenizer.model"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    for text in (
        "if x:\n        return  the   12",
        " " * 23 + "</s>",
        SPACE + "é\t漢",
        Path(__file__).read_text(),
    ):
        assert tokenizer.encode(text).ids == source.encode(text)
