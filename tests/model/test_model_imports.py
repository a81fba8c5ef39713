"""Folders with the files of published families, imported: separator, ends, templates, BOS, repairs."""

import json
import shutil

import pytest
from tests.model.families import GPT2_SIZE, SIZE, Family, bpe
from tests.model.family_folders import FAMILIES
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cpt.config_sections import LocalModel
from cpt.errors import UserError
from cpt.model.checks import KNOWN_TEXT
from cpt.shapes import shape_before_import
from cpt.templates import chat_templates
from cpt.train.costs import shape_of

SAMPLING = ("do_sample", "temperature", "top_k", "top_p")
TURNS = [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yes"}]
END, IM_END = "<|endoftext|>", "<|im_end|>"
SENTENCE = "<\uff5cend\u2581of\u2581sentence\uff5c>"
# Separator, ends of generation, templates, BOS before documents, and the repairs, each by how it begins.
EXPECTED = {
    "SmolLM2-Instruct": (
        END,
        [END, IM_END],
        ["default"],
        False,
        ["tokenizer: EOS is", "config.eos_token_id"],
    ),
    "Qwen3": (END, [END, IM_END], ["default"], False, ["tokenizer: EOS is", "config.eos_token_id"]),
    "Llama-3.2-Instruct": (
        "<|end_of_text|>",
        ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        ["default"],
        True,
        ["tokenizer: EOS is", "config.eos_token_id"],
    ),
    "Gemma 3": (
        "<eos>",
        ["<eos>", "<end_of_turn>"],
        ["default"],
        True,
        ["tokenizer: '<image_soft_token>' beyond the embedding", "config.eos_token_id"],
    ),
    "OLMo 2": (END, [END], ["default"], False, []),
    "Pythia": (END, [END], [], False, []),
    "GPT-2": (END, [END], [], False, ["tokenizer: eos_token was empty"]),
    "GPT-Neo": (END, [END], [], False, ["weights: 4 buffers"]),
    "Phi 1.5": (END, [END], [], False, ["config.eos_token_id"]),
    "Phi 3": (END, [END, "<|assistant|>", "<|end|>"], ["default"], False, []),
    "Mistral-Instruct": ("</s>", ["</s>"], ["default", "tool_use"], True, []),
    "Falcon": (END, [END], [], False, []),
    "TinyLlama": (
        "</s>",
        ["</s>"],
        ["default"],
        True,
        ["tokenizer: tokenizer.json made from SentencePiece's", "tokenizer: adds '<s>'"],
    ),
    "OPT": ("</s>", ["</s>"], [], False, ["tokenizer: tokenizer.json made from vocab.json and merges.txt"]),
    "DeepSeek LLM": (SENTENCE, [SENTENCE], ["default"], True, ["tokenizer: adds '<\uff5cbegin"]),
    "StableLM 2": (
        END,
        [END, IM_END],
        ["default"],
        False,
        ["tokenizer: EOS is", "chat template: its eos_token stays"],
    ),
    "SmolLM3": (
        "<|end_of_text|>",
        ["<|end_of_text|>", IM_END],
        ["default"],
        False,
        ["tokenizer: EOS is", "config.eos_token_id"],
    ),
    "MPT": (END, [END], [], False, ["config: max_position_embeddings is 256"]),
    "Bloom": ("</s>", ["</s>"], [], False, ["config: max_position_embeddings is 256"]),
    "StarCoder": (END, [END], [], False, []),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_imported(name, tmp_path, import_base, sentencepiece_model):
    family, source = FAMILIES[name], tmp_path / "source"
    pieces = None
    if family.split == "pieces":
        (tmp_path / "text.txt").write_text("\n".join(KNOWN_TEXT.split(". ")))
        pieces = sentencepiece_model(input=str(tmp_path / "text.txt"), vocab_size=420)
    backend = family.write(source, pieces)
    base, report = import_base({"source": "local", "path": str(source)})
    separator, ends, templates, bos, repairs = EXPECTED[name]
    assert report["document_separator"] == separator and list(report["ends_of_generation"]) == ends
    assert report["chat_templates"] == templates and report["adds_bos"] is bos
    begins = [line[: len(start)] for line, start in zip(report["repairs"], repairs, strict=False)]
    assert begins == repairs and len(report["repairs"]) == len(repairs), report["repairs"]
    assert report["shape"]["num_hidden_layers"] == 2 and report["context_length"] == 256
    assert report["shape"] == shape_before_import(source)  # plans read it

    # What users get: the ids of the authors' tokenizer, its templates, sides and sampling.
    tokenizer = AutoTokenizer.from_pretrained(base)
    text = "The sun is 12  <|im_end|> é"
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert plain == backend.encode(text, add_special_tokens=False).ids
    assert tokenizer(text)["input_ids"] == [tokenizer.bos_token_id] * (bos or name == "OPT") + plain
    assert tokenizer.padding_side == family.tokenizer.get("padding_side", "right")
    theirs, ours = chat_templates(source), chat_templates(base)
    assert {key: template.render(TURNS) for key, template in ours.items()} == {
        key: template.render(TURNS) for key, template in theirs.items()
    }
    generation = json.loads((base / "generation_config.json").read_text())
    sampling = {key: value for key, value in (family.generation or {}).items() if key in SAMPLING}
    assert {key: generation.get(key) for key in sampling} == sampling
    assert not {"configuration_phi3.py", "original"} & {path.name for path in base.iterdir()}


LLAMA = {**SIZE, "model_type": "llama", "eos_token_id": END, "bos_token_id": END, "tie_word_embeddings": True}
EOS = {"eos_token": END}
CHANGES = {
    "added without resizing": (
        lambda source: add_token(source, "<|im_end|>"),
        r"'<\|im_end\|>' \(id \d+\) was added to the tokenizer, but the embedding has only \d+ rows",
    ),
    "another model's tokenizer": (
        lambda source: bpe((END,), "bytes", 600).save(str(source / "tokenizer.json")),
        r"the tokenizer has ids up to \d+, but the embedding only \d+ rows.*belong to different models",
    ),
    "tiktoken": (
        lambda source: only(source, "tokenizer.model", "IQ== 0\nIg== 1\nIw== 2\n"),
        r"tokenizer\.model: a tiktoken file.*save_pretrained",
    ),
    "tekken": (
        lambda source: only(source, "tekken.json", "{}"),
        r"only tekken\.json of a tokenizer, Mistral's own.*save_pretrained",
    ),
    "spiece": (
        lambda source: only(source, "spiece.model", ""),
        r"only spiece\.model .*SentencePiece.*save_pretrained",
    ),
    "words": (
        lambda source: only(source, "vocab.txt", "a"),
        r"only vocab\.txt .*list of words.*save_pretrained",
    ),
    "no merges": (
        lambda source: only(source, "vocab.json", "{}"),
        r"only vocab\.json .*without its merges\.txt",
    ),
    "qwen 1": (lambda source: only(source, "qwen.tiktoken", ""), r"only qwen\.tiktoken .*tiktoken file"),
    "broken merges": (
        lambda source: only(source, "merges.txt", "", **{"vocab.json": "["}),
        r"no tokenizer can be made of vocab\.json and merges\.txt \(.*save_pretrained",
    ),
    "a class without a fast tokenizer": (
        lambda source: only(
            source, "merges.txt", "#version\n", "CTRLTokenizer", **{"vocab.json": '{"<unk>": 0}'}
        ),
        r"transformers has no fast tokenizer for vocab\.json and merges\.txt .*CTRLTokenizer.*save_pre",
    ),
    "adapter": (
        lambda source: (source / "model.safetensors").rename(source / "adapter_model.safetensors"),
        r"only adapter_model\.safetensors.*adapter.*merge_and_unload",
    ),
    "adapter alone": (
        lambda source: (source / "config.json").rename(source / "adapter_config.json"),
        r"adapter_config\.json.*adapter.*merge_and_unload",
    ),
    "mistral's own weights": (
        lambda source: (source / "model.safetensors").rename(source / "consolidated.safetensors"),
        r"only consolidated\.safetensors.*names of Mistral",
    ),
    "pictures": (
        lambda source: (source / "config.json").write_text('{"model_type": "gemma3", "text_config": {}}'),
        r"has no vocab_size, as a model of text and pictures",
    ),
    "Falcon of 2023": (
        lambda source: (source / "config.json").write_text('{"model_type": "RefinedWebModel"}'),
        r"model_type 'RefinedWebModel' isn't .* built in",
    ),
}


def add_token(source, text):
    backend = Tokenizer.from_file(str(source / "tokenizer.json"))
    backend.add_special_tokens([text])
    backend.save(str(source / "tokenizer.json"))
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": text}))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"eos_token_id": backend.token_to_id(text)}))


def only(source, name, content, kind=None, **others):
    """Keep only these files of the tokenizer; `kind` is its class."""
    (source / "tokenizer.json").unlink()
    for file, text in {name: content, **others}.items():
        (source / file).write_text(text)
    if kind:
        (source / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": kind, "unk_token": "<unk>"})
        )


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder that could be imported."""
    folder = tmp_path_factory.mktemp("llama") / "source"
    Family(LLAMA, tokenizer=EOS).write(folder)
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_a_refusal_names_its_cause(name, llama, tmp_path, import_base):
    source = shutil.copytree(llama, tmp_path / "source")
    change, message = CHANGES[name]
    change(source)
    with pytest.raises(UserError, match=message):
        import_base({"source": "local", "path": str(source)})


ARCHITECTURES = {
    "Granite 3": ({"model_type": "granite", "logits_scaling": 8.0}, "otherwise changes its logits"),
    "Cohere": ({"model_type": "cohere", "logit_scale": 0.0625}, "otherwise changes its logits"),
    "Gemma 2": ({"model_type": "gemma2", "head_dim": 8}, "otherwise changes its logits"),
    "Falcon-H1": (
        {"model_type": "falcon_h1", "lm_head_multiplier": 0.5, "mamba_d_ssm": 32, "mamba_n_heads": 4}
        | {"mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "projectors_bias": False}
        | {"time_step_limit": [0.0, {"__float__": "Infinity"}]},
        "otherwise changes its logits",
    ),
    "Mixtral": ({"model_type": "mixtral", "num_local_experts": 2}, "has 2 experts"),
    "Bloom": (
        {"model_type": "bloom", "n_head": 4, "n_layer": 2, "max_position_embeddings": None},
        "no max_position_embeddings.*add the number that it was trained with",
    ),
    "Mamba": ({"model_type": "mamba", "max_position_embeddings": None}, "no max_position_embeddings"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_refused_for_what_it_is(name, llama, tmp_path, import_base):
    settings, message = ARCHITECTURES[name]
    source = shutil.copytree(llama, tmp_path / "source")
    config = {**json.loads((llama / "config.json").read_text()), **settings}
    options = {key: value for key, value in config.items() if key not in ("torch_dtype", "time_step_limit")}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**options)).save_pretrained(source)
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        import_base({"source": "local", "path": str(source)})


def test_a_template_that_cant_be_rendered_is_reported(llama, tmp_path, import_base, caplog):
    source = shutil.copytree(llama, tmp_path / "source")
    (source / "chat_template.jinja").write_text("{% for m in messages %}\n{{ m.content }}")
    _, report = import_base({"source": "local", "path": str(source)})
    (line,) = report["chat_template_problems"]
    assert "chat_template.jinja: the chat template 'default' fails in line 2: Unexpected end" in line
    assert line in caplog.text


SIZES = {
    "gpt2": {**GPT2_SIZE},
    "gptj": {**GPT2_SIZE, "rotary_dim": 4},
    "codegen": {**GPT2_SIZE, "rotary_dim": 4},
    "gpt_bigcode": {**GPT2_SIZE, "n_inner": 96},
    "falcon": {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "max_position_embeddings": 256,
    },
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "bloom": {"hidden_size": 32, "n_head": 4, "n_layer": 2, "seq_length": 256},
}


@pytest.mark.parametrize("kind", SIZES)
def test_plans_know_the_size_of_a_local_folder_before_its_import(kind, tmp_path):
    """Whatever keys its config.json uses."""
    config = {"model_type": kind, "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, **SIZES[kind]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = shape_of(LocalModel(source="local", path=str(tmp_path)), None)
    assert (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads) == (2, 32, 4)
    assert shape.intermediate_size == SIZES[kind].get("n_inner", 128) and shape.max_position_embeddings == 256
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape_of(LocalModel(source="local", path=str(tmp_path / "none")), None) is None
