import json
import random

import pytest
import sentencepiece
import torch
from pydantic import TypeAdapter

from base_model import base_model
from cpt.config_sections import BaseSource, RandomModel
from cpt.model.checks import KNOWN_TEXT
from cpt.model.tiny import load_random

WORDS = [
    "the",
    "model",
    "reads",
    "a",
    "document",
    "and",
    "writes",
    "tokens",
    "for",
    "each",
    "word",
    "12",
    "345",
]


# Chat templates of model families, abridged: no tools, no thinking, no system turns.
TEMPLATES = {
    "SmolLM2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM<|im_end|>\\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "Llama 3.2": (
        "{{- bos_token }}\n"
        "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
        "{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}{%- endif %}\n"
        "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '<|eot_id|>' }}\n"
        "{%- for message in messages %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{{- message['content'] | trim + '<|eot_id|>' }}{%- endfor %}\n"
        "{%- if add_generation_prompt %}"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
    ),
    "Gemma 3": (
        "{{ bos_token }}\n"
        "{%- for message in messages -%}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}\n"
        "        {{ raise_exception('Conversation roles must alternate user/assistant/...') }}\n"
        "    {%- endif -%}\n"
        "    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}\n"
        "    {{ '<start_of_turn>' + role + '\n' }}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}\n"
        "{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
    ),
    "TinyLlama": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "Mistral": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ ' [INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] + eos_token}}{% endif %}{% endfor %}"
    ),
    "Phi 3": (
        "{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}"
        "{{ eos_token }}{% endif %}"
    ),
    "SmolLM3": (
        "{%- set today = strftime_now('%d %B %Y') -%}\n{%- for message in messages -%}\n"
        "{% if message.role == 'assistant' %}{% generation %}{{ '<|im_start|>assistant\n' + message.content +"
        " '<|im_end|>\n' }}{% endgeneration %}{% else %}{{ '<|im_start|>' + message.role + '\n' +"
        " message.content + '<|im_end|>\n' }}{% endif %}{%- endfor -%}\n"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n' }}{% endif %}"
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """With models this small, threads only wait for each other, for seconds on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def source():
    """A tiny Llama with a byte-level tokenizer, as the config describes it."""
    return RandomModel(source="random", hidden_size=32, layers=2, heads=4, context_length=256, seed=0)


@pytest.fixture
def tiny(source):
    """The model and the tokenizer of `source`."""
    return load_random(source)


@pytest.fixture
def folder(tiny, tmp_path):
    """The same as a Hugging Face folder."""
    tiny.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def edit_json():
    """Change keys of a JSON file; None removes a key."""

    def edit(path, **changes):
        value = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))

    return edit


@pytest.fixture
def logits():
    """Logits of a model for a fixed input."""

    def compute(model):
        with torch.inference_mode():
            return model.eval()(input_ids=torch.arange(3, 40)[None]).logits

    return compute


def lines_of_prose(seed, count=400):
    """Prose, indentation and runs of spaces."""
    draw = random.Random(seed)
    return [
        " " * draw.choice([0, 0, 1, 4, 8, 17])
        + "".join(draw.choice(WORDS) + " " * draw.choice([1, 1, 1, 2, 5]) for _ in range(8))
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory):
    """Train a small SentencePiece model, with Llama's settings by default."""

    def train_model(**changed):
        folder = tmp_path_factory.mktemp("pieces")
        (folder / "text.txt").write_text("\n".join(lines_of_prose(0)))
        llama = {
            "vocab_size": 350,
            "model_type": "bpe",
            "byte_fallback": True,
            "split_digits": True,
            "normalization_rule_name": "identity",
            "allow_whitespace_only_pieces": True,
            "remove_extra_whitespaces": False,
            "input": str(folder / "text.txt"),
        }
        sentencepiece.SentencePieceTrainer.train(
            model_prefix=str(folder / "tokenizer"),
            num_threads=1,
            minloglevel=2,
            **(llama | changed),
        )
        return folder / "tokenizer.model"

    return train_model


@pytest.fixture(scope="session")
def prose():
    return lines_of_prose


@pytest.fixture
def learn():
    """Train a model until it knows the text of the import's check, so that it counts as trained."""

    def train(model, tokenizer):
        text = tokenizer(KNOWN_TEXT, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[tokenizer.eos_token_id, *text]])[:, : model.config.max_position_embeddings]
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
        for _ in range(20):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


@pytest.fixture
def import_base(tmp_path):
    """Run the stage on a source; returns the model folder and the report."""

    def run(source, wheel=None, sequence_length=128):
        folder, report = tmp_path / "imported", tmp_path / "imported.json"
        base_model(TypeAdapter(BaseSource).validate_python(source), sequence_length, folder, report, wheel)
        return folder, json.loads(report.read_text())

    return run
