"""Models as GGUF files: llama.cpp itself reads them, with the ids and logits of the folder they come from."""

import csv
import ctypes
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.model.gguf_folders import IDS, LLAMA3_ROPE, TRAINED_ON, byte_pairs, logits, saved
from tokenizers import (
    Regex,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import AutoConfig

from cpt import model_folders
from cpt.errors import UserError
from cpt.evaluate.bits import document_losses, table_of
from cpt.gguf_types import ARCHITECTURES
from cpt.model.gguf_file import read_back, tensor_type, write_gguf
from cpt.model.gguf_vocabulary import PATTERNS, SPACE
from cpt.model.k_quants import QUANTIZERS
from cpt.model.pieces import tokenizer_of_pieces
from cpt.model.tiny import END_OF_TEXT
from cpt.token_windows import HeldOut
from cpt.train.results import save_model
from quantisation import quantisation

LLAMA = Path(sys.prefix) / "llama" / "xllamacpp" / "xllamacpp.abi3.so"  # of `make test`
READER = Path(__file__).with_name("llama_cpp.py")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
MODELS = {
    "SmolLM2": {"model_type": "llama", "tie_word_embeddings": True, "rope_theta": 100_000.0},
    "Llama 3": {
        "model_type": "llama",
        "rope_theta": 500_000.0,
        "rope_scaling": LLAMA3_ROPE | {"original_max_position_embeddings": 64},
    },
    "linear": {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "biases": {"model_type": "llama", "attention_bias": True},
    "Mistral": {"model_type": "mistral", "sliding_window": None, "head_dim": 32},
    "SmolLM3": {"model_type": "smollm3", "num_hidden_layers": 4, "tie_word_embeddings": True},
    "Qwen2": {"model_type": "qwen2", "tie_word_embeddings": True, "rope_scaling": YARN},
    "Qwen3": {"model_type": "qwen3", "head_dim": 32},
    "Phi 3": {"model_type": "phi3", "sliding_window": None},
    "OLMo 2": {"model_type": "olmo2"},
    "Gemma 3": {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "num_hidden_layers": 6,
        "sliding_window": 16,
        "tie_word_embeddings": True,
        "rope_local_base_freq": 20_000.0,
    },
    "GPT-2": {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 512},
    "Pythia": {"model_type": "gpt_neox", "rotary_pct": 0.25},
    "Pythia in sequence": {"model_type": "gpt_neox", "use_parallel_residual": False},
}


@pytest.fixture
def llama_cpp(tmp_path):
    """What llama.cpp computes from a file: ids of texts, logits of ids, ids that end an answer."""
    assert LLAMA.is_file(), f"{LLAMA} isn't there: `make test` installs it"

    def ask(file, texts=(), ids=()):
        questions, answers = tmp_path / "questions.json", tmp_path / "answers.npz"
        questions.write_text(json.dumps({"texts": list(texts), "ids": torch.as_tensor(ids).tolist()}))
        command = [sys.executable, READER, LLAMA, file, questions, answers]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        arrays = np.load(answers)
        ends = np.cumsum(arrays["lengths"])[:-1]
        return (
            [part.tolist() for part in np.split(arrays["tokens"], ends)],
            arrays["logits"],
            arrays["ends"].tolist(),
        )

    return ask


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_the_same(name, tmp_path, llama_cpp):
    """Except for f16 and its own kernels (GELU by tanh); a wrong setting would be off by 0.1 or more."""
    folder, file = tmp_path / "model", tmp_path / "model.gguf"
    expected = logits(saved(folder, MODELS[name]))
    write_gguf(folder, "f16", file, "run")
    assert np.abs(logits(read_back(file, folder)) - expected).max() < 0.004
    texts, computed, ends = llama_cpp(file, ["héllo 12"], IDS)
    assert np.abs(computed - expected).max() < 0.008 and expected.std() > 0.4
    assert texts == [list("héllo 12".encode())] and ends == [256]


def test_what_a_file_lost_has_an_interval_by_group(tmp_path):
    """Compared with the model's own losses on the same documents, here three in two groups."""
    folder, file = tmp_path / "model", tmp_path / "model.gguf"
    model = saved(folder, MODELS["SmolLM2"])
    write_gguf(folder, "q8_0", file, "run")
    ids = torch.randint(0, 256, (90,), generator=torch.Generator().manual_seed(2)).numpy().astype(np.uint32)
    held_out = HeldOut(ids, np.array([20, 50, 90]), np.array([20, 30, 40]), 256, groups=np.array([0, 1, 1]))
    held_out.save(tmp_path / "tokens.npz")
    nats = document_losses(model, held_out, 64, 2)
    (tmp_path / "losses.csv").write_text(table_of(held_out, nats))
    files = ([file], [tmp_path / "tokens.npz"], [tmp_path / "losses.csv"], tmp_path / "table.csv")
    quantisation(folder, *files, ["q8_0"], ["bytes"], 64, 2, device="cpu")
    (row,) = csv.DictReader((tmp_path / "table.csv").open())
    assert float(row["bits_per_byte_of_model"]) == pytest.approx(nats.sum() / math.log(2) / 90)
    lost = document_losses(read_back(file, folder), held_out, 64, 2) - nats
    low, high = (float(row[f"difference_ci_{end}"]) for end in ("low", "high"))
    by_group = [lost[:1].sum() / math.log(2) / 20, lost[1:].sum() / math.log(2) / 70]
    # With two groups, the interval reaches from one to the other.
    assert (low, high) == pytest.approx((min(by_group), max(by_group)), abs=1e-6)
    assert (row["documents"], row["groups"]) == ("3", "2")


def test_all_architectures_are_tried():
    assert {settings["model_type"] for settings in MODELS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize(("kind", "width"), [("q8_0", 256), ("q4_k_m", 256), ("q4_k_m", 96)])
def test_quantised_files_hold_what_llama_cpp_computes_with(kind, width, tmp_path, llama_cpp):
    size = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "tie_word_embeddings": False,
    }
    expected = logits(saved(tmp_path / "model", {**size, "num_hidden_layers": 3}))
    facts = write_gguf(tmp_path / "model", kind, tmp_path / "model.gguf", "run")
    types = {"q8_0": {"Q8_0"}, "q4_k_m": {"Q4_K", "Q6_K"} if width == 256 else {"Q5_0", "Q8_0"}}[kind]
    assert set(facts["types"]) == types | {"F32"}
    back = logits(read_back(tmp_path / "model.gguf", tmp_path / "model"))
    _, computed, _ = llama_cpp(tmp_path / "model.gguf", [], IDS)
    lost = np.abs(back - expected).mean()
    assert 0 < lost < 0.35 * expected.std()
    assert np.abs(computed - back).mean() < max(0.02, 0.5 * lost)  # llama.cpp quantises activations as well


@pytest.fixture(scope="module")
def ggml():
    library = ctypes.CDLL(str(LLAMA))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, *[number] * 3, pointer]
    return library


@pytest.mark.parametrize("kind", QUANTIZERS)
@pytest.mark.parametrize("values", ["normal", "heavy", "zeros", "grid", "one sign"])
def test_k_quants_are_the_bytes_of_llama_cpp(kind, values, ggml):
    drawn = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    if values == "heavy":
        drawn = drawn**3
    elif values == "zeros":
        drawn[::3], drawn[1::5, :64] = 0, 0
    elif values == "grid":
        drawn = np.round(drawn * 8) / 8
    elif values == "one sign":
        drawn = -np.abs(drawn) - 0.1
    ours = QUANTIZERS[kind](drawn)
    theirs = np.zeros_like(ours)
    number = gguf.GGMLQuantizationType[kind]
    written = ggml.ggml_quantize_chunk(number, drawn.ctypes.data, theirs.ctypes.data, 0, *drawn.shape, None)
    assert written == ours.nbytes
    assert (ours == theirs).all(axis=1).mean() > 0.99  # llama.cpp may sum in another order


def test_types_of_q4_k_m_are_those_of_llama_cpp():
    tied = AutoConfig.for_model("llama", num_hidden_layers=16, tie_word_embeddings=True)
    untied = AutoConfig.for_model("llama", num_hidden_layers=16, tie_word_embeddings=False)

    def kind(name, columns=512, config=tied, kind="q4_k_m"):
        return tensor_type(name, (8, columns), kind, config).name

    careful = [layer for layer in range(16) if kind(f"blk.{layer}.ffn_down.weight") == "Q6_K"]
    assert careful == [0, 1, 4, 7, 10, 13, 14, 15]
    assert [layer for layer in range(16) if kind(f"blk.{layer}.attn_qkv.weight") == "Q6_K"] == careful
    assert kind("blk.0.ffn_up.weight") == "Q4_K" and kind("blk.0.ffn_up.weight", 96) == "Q5_0"
    assert kind("token_embd.weight") == "Q6_K" and kind("token_embd.weight", 96) == "Q8_0"
    assert (
        kind("token_embd.weight", config=untied) == "Q4_K" and kind("output.weight", config=untied) == "Q6_K"
    )
    assert tensor_type("output_norm.weight", (512,), "q4_k_m", tied).name == "F32"
    assert kind("position_embd.weight") == "F32"
    with pytest.raises(
        UserError, match=r"blk\.0\.ffn_up\.weight has rows of 40 values, but q8_0 has blocks of 32"
    ):
        kind("blk.0.ffn_up.weight", 40, kind="q8_0")
    with pytest.raises(
        UserError, match=r"token_embd\.weight has rows of 40 values, but q4_k_m has blocks of 32"
    ):
        kind("token_embd.weight", 40)


# ------------------------------------------------------------------------------------------- tokenizers
def texts(count=2_600):
    """Texts on which tokenizers tend to differ."""
    draw = random.Random(0)
    words = [
        *TRAINED_ON[0].split(" ")[:400],
        *TRAINED_ON[1].split(" "),
        "<|im_end|>",
        "[TOOL]",
        "'Re",
        "…",
        "\u3000",
    ]

    def part():
        kind = draw.random()
        if kind < 0.6:
            return draw.choice(words) + " " * draw.choice((0, 1, 1, 1, 2))
        if kind < 0.8:
            return draw.choice((" ", "\n", "\t", "\r\n", " \n")) * draw.choice((1, 2, 3, 4, 8, 17))
        if kind < 0.9:
            return str(draw.randrange(10 ** draw.randrange(1, 12)))
        return chr(
            draw.choice(
                (draw.randrange(0x20, 0x250), draw.randrange(0x370, 0x2000), draw.randrange(0x3000, 0xD7A0))
            )
        )

    runs = [unit * length for unit in (" ", "\n", "\t", " \n", "-", "a", "0") for length in range(1, 20)]
    return [
        "",
        *runs,
        *("".join(part() for _ in range(draw.randint(1, 20))) for _ in range(count - len(runs) - 1)),
    ]


@pytest.mark.parametrize("key", PATTERNS, ids=PATTERNS.get)
def test_llama_cpp_gives_the_ids_of_byte_pairs(key, tmp_path, llama_cpp):
    cut, ignore_merges = key
    backend = byte_pairs(cut, ignore_merges)
    ends = [backend.token_to_id(token) for token in (END_OF_TEXT, "<|im_end|>")]
    saved(tmp_path / "model", {"model_type": "llama"}, backend, {"eos_token": END_OF_TEXT}, ends)
    assert write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")["notes"] == []
    inputs = texts()
    encoded, _, stops = llama_cpp(tmp_path / "model.gguf", inputs)
    expected = [encoding.ids for encoding in backend.encode_batch(inputs)]
    wrong = [text for text, one, other in zip(inputs, encoded, expected, strict=True) if one != other]
    assert not wrong, f"{len(wrong)} texts, such as {min(wrong, key=len)!r}"
    assert stops == ends


@pytest.mark.parametrize("prefix", [True, False], ids=["Llama", "Gemma"])
def test_llama_cpp_gives_the_ids_of_sentencepiece(prefix, tmp_path, llama_cpp, sentencepiece_model, prose):
    backend = tokenizer_of_pieces(sentencepiece_model(add_dummy_prefix=prefix))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", bos)])
    saved(tmp_path / "model", {"model_type": "llama"}, backend, special, [2])
    write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")
    inputs = [text for text in (*prose(1), *texts(2_200)) if text and SPACE not in text]
    encoded, _, stops = llama_cpp(tmp_path / "model.gguf", inputs)
    expected = [encoding.ids for encoding in backend.encode_batch(inputs)]
    wrong = [text for text, one, other in zip(inputs, encoded, expected, strict=True) if one != other]
    assert len(inputs) > 2_000 and not wrong, f"{len(wrong)} texts, such as {min(wrong, key=len)!r}"
    assert stops == [2]


def test_matches_can_be_kept_in_two_ways(tmp_path):
    cut, ignore_merges = next(key for key, name in PATTERNS.items() if name == "dbrx")
    backend = byte_pairs(cut, ignore_merges)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(cut), "removed", invert=True)  # as tiktoken's are converted
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    saved(tmp_path / "model", {"model_type": "llama"}, backend, {"eos_token": END_OF_TEXT}, [0])
    write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")
    assert gguf.GGUFReader(tmp_path / "model.gguf").fields["tokenizer.ggml.pre"].contents() == "dbrx"


def test_what_llama_cpp_does_differently_is_noted(tmp_path):
    backend = byte_pairs("bytes", normalizer=normalizers.NFC())
    saved(tmp_path / "model", {"model_type": "qwen2"}, backend, {"eos_token": END_OF_TEXT}, [0])
    (note,) = write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")["notes"]
    assert "doesn't normalize text (Unicode's NFC)" in note


def test_the_embedding_has_more_rows_than_the_tokenizer(tmp_path, llama_cpp):
    saved(tmp_path / "model", {"model_type": "llama", "vocab_size": 300})
    write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")
    assert llama_cpp(tmp_path / "model.gguf", ["a"], IDS)[1].shape == (2, 60, 300)


def test_attention_windows_bound_the_context(tmp_path):
    saved(tmp_path / "model", {"model_type": "mistral", "sliding_window": 128})
    write_gguf(tmp_path / "model", "f16", tmp_path / "model.gguf", "run")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["llama.context_length"].contents() == 128


def test_weights_in_several_files_make_the_same_file(tmp_path, monkeypatch):
    model = saved(tmp_path / "model", {"model_type": "llama"})
    write_gguf(tmp_path / "model", "q8_0", tmp_path / "one.gguf", "run")
    monkeypatch.setattr("cpt.train.results.SHARD_BYTES", 40_000)
    save_model(dict(model.named_parameters()), tmp_path / "model", tmp_path / "shards")
    files = model_folders.weights(tmp_path / "shards")
    assert files[0].name == "model.safetensors.index.json" and len(files) > 3
    write_gguf(tmp_path / "shards", "q8_0", tmp_path / "several.gguf", "run")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "several.gguf").read_bytes()
