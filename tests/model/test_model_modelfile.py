"""The Modelfile for Ollama: template, stops and sampling of the model."""

import json

import pytest
from tests.model.gguf_folders import CHATML
from transformers import PreTrainedTokenizerFast

from cpt.gguf_types import gguf_name
from cpt.model.gguf_file import ends_of_generation
from cpt.model.loaded import fast_tokenizer
from cpt.model.ollama import modelfile, preferred, recognised
from cpt.model.tiny import END_OF_TEXT, byte_tokenizer


def chatting(template, ends=("<|im_end|>",), bos=None):
    backend = byte_tokenizer()
    backend.add_special_tokens([*ends, *([bos] if bos else [])])
    settings = {"eos_token": END_OF_TEXT, "chat_template": template}
    return fast_tokenizer(backend, settings | ({"bos_token": bos} if bos else {}), 512)


ZEPHYR = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '</s>\n' }}{% endfor %}"
ZEPHYR += "{{ '<|assistant|>\n' }}"
GEMMA = (
    "{{ bos_token }}{% set start = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
)
GEMMA += (
    "{% for m in messages if m.role != 'system' %}{{ '<start_of_turn>' + m.role.replace('assistant', 'model')"
)
GEMMA += " + '\n' + (start if loop.first else '') + m.content + '<end_of_turn>\n' }}{% endfor %}"
GEMMA += "{{ '<start_of_turn>model\n' }}"
LLAMA_3 = "{% for m in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + m.role +"
LLAMA_3 += " '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
LLAMA_3 += "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (CHATML, "chatml"),
        (ZEPHYR, "zephyr"),
        (GEMMA, "gemma"),
        (LLAMA_3, "llama3"),
        ("{{ messages[0].content }}", None),
    ],
    ids=str,
)
def test_a_chat_template_is_recognised_by_what_it_writes(template, name):
    assert recognised(chatting(template, bos="<bos>")) == name


def test_modelfile_of_a_chat_model_names_template_stops_and_sampling(tmp_path):
    default = "{% if messages[0].role != 'system' %}<|im_start|>system\nI help.<|im_end|>\n{% endif %}"
    chatting(default + CHATML).save_pretrained(tmp_path)
    generation = {"eos_token_id": [256, 257], "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert ends_of_generation(tmp_path) == [256, 257]
    assert modelfile(tmp_path, "run-Q8_0.gguf", [256, 257]).splitlines() == [
        "FROM ./run-Q8_0.gguf",
        "",
        'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}',
        "{{ .Content }}<|im_end|>",
        "{{ end }}<|im_start|>assistant",
        '"""',
        'SYSTEM """I help."""',
        "",
        "PARAMETER temperature 0.6",
        "PARAMETER top_p 0.9",
        'PARAMETER stop "<|endoftext|>"',
        'PARAMETER stop "<|im_end|>"',
    ]


def test_modelfile_of_other_models(tmp_path):
    chatting(None).save_pretrained(tmp_path / "base")
    assert 'TEMPLATE "{{ .Prompt }}"' in modelfile(tmp_path / "base", "x.gguf", [256])
    chatting("{{ raise_exception('no') }}").save_pretrained(tmp_path / "odd")
    text = modelfile(tmp_path / "odd", "x.gguf", [256])
    assert "\nTEMPLATE" not in text and "# Ollama compares the chat template" in text
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path / "odd").chat_template


def test_the_file_to_run():
    names = [gguf_name("a-F16", kind) for kind in ("f16", "q4_k_m", "q8_0")]
    assert preferred(names) == "a-F16-Q8_0.gguf" and preferred(names[:2]) == "a-F16-Q4_K_M.gguf"
