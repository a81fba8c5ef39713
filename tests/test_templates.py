"""Conversations rendered as transformers does, and templates that can't be."""

import json

import pytest
from tests.model.conftest import TEMPLATES
from tokenizers import AddedToken
from transformers import AutoTokenizer

from cpt.errors import UserError
from cpt.model.loaded import fast_tokenizer
from cpt.model.tiny import byte_tokenizer
from cpt.templates import chat_template, chat_templates, template_problems

TURNS = [
    {"role": "user", "content": "hi <b>\n", "name": None},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "é 日本"},
]


@pytest.fixture
def folder(tmp_path):
    """A tokenizer with a list of named templates."""
    backend = byte_tokenizer()
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "<image>")])
    tokenizer = fast_tokenizer(backend, {"bos_token": "<s>", "eos_token": "<|endoftext|>"}, 512)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def settle(folder, template):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("opened", [False, True])
def test_text_is_that_of_transformers(family, opened, folder):
    settle(folder, TEMPLATES[family])
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        TURNS, tokenize=False, add_generation_prompt=opened, date_string="26 Jul 2024"
    )
    assert chat_template(folder).render(TURNS, add_generation_prompt=opened) == expected
    assert "hi <b>" in expected and template_problems(folder) == []


def test_templates_are_found_where_transformers_finds_them(folder):
    assert chat_templates(folder) == {}
    with pytest.raises(UserError, match="has no chat template; put one into"):
        chat_template(folder)
    (folder / "chat_template.json").write_text('{"chat_template": "oldest"}')
    assert chat_template(folder).text == "oldest"
    settle(folder, [{"name": "default", "template": "a"}, {"name": "rag", "template": "b{{ bos_token }}"}])
    assert {name: template.render([]) for name, template in chat_templates(folder).items()} == {
        "default": "a",
        "rag": "b<s>",
    }
    settle(folder, [{"name": "rag", "template": "b"}, {"name": "tool_use", "template": "c"}])
    with pytest.raises(UserError, match="no chat template called default, only rag, tool_use"):
        chat_template(folder)
    (folder / "chat_template.jinja").write_text("first")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("second")
    assert {name: template.text for name, template in chat_templates(folder).items()} == {
        "default": "first",
        "rag": "second",
    }


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\n{% for m in messages %}\n{{ m.content }}", 3, "Unexpected end of template"),
        ("{{ 'a' }}\n{{ messages[0]['content'] + 1 }}", 2, "can only concatenate str"),
        ("a\n\n{{ raise_exception('roles must alternate') }}", 3, "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}\n", 1, "unsafe"),
    ],
)
def test_a_template_that_fails_is_named_with_its_line(template, line, reason, folder):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(
        UserError, match=rf"chat_template\.jinja: .*'default' fails in line {line}: .*{reason}"
    ):
        chat_template(folder).render(TURNS)
    assert len(template_problems(folder)) == 1


def test_a_list_without_names_is_refused(folder):
    settle(folder, [{"template": "a"}])
    with pytest.raises(
        UserError, match=r"tokenizer_config\.json: chat_template must be a text, or a list of"
    ):
        chat_templates(folder)


def test_the_date_doesnt_change_from_day_to_day(folder):
    settle(folder, "{{ strftime_now('%d %b %Y') }}")
    assert chat_template(folder).render(TURNS) == "26 Jul 2024"
