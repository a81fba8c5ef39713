"""Chat templates of a model's folder: where they stand, and a conversation as the text that a model reads.

transformers compiles and sandboxes the templates. Neither torch nor a tokenizer is loaded.
"""

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template, _get_template_variables

from cpt.errors import UserError
from cpt.files import read_json

# Some templates write the date into the system's turn (Llama 3.2, SmolLM3). A fixed one gives the same text
# every day; it is the one that Llama's template has where it can't ask for the date.
TODAY = date(2024, 7, 26)
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
PLAIN = ({"role": "user", "content": "What is a star?"}, {"role": "assistant", "content": "A ball of gas."})
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template. `text` came from `file`; `tokens` are special tokens by the names that it uses."""

    name: str
    text: str
    file: Path
    tokens: Mapping[str, str]

    def render(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> str:
        """The conversation as text, special tokens included: encode it without adding further ones.

        The same as tokenizer.apply_chat_template(messages, tokenize=False) of transformers, on the day TODAY.

        Args:
            messages: dictionaries with `role` and `content`, as in a JSON file.
            add_generation_prompt: end with the beginning of an assistant's turn.
            variables: others that the template knows (tools, enable_thinking, ...).

        Raises UserError, naming file and line, if the template isn't valid or refuses the conversation, such
        as roles in another order than it knows.
        """
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in messages]
        values = {"tools": None, "documents": None, "strftime_now": TODAY.strftime, **self.tokens}
        try:
            template = _compile_jinja_template(self.text)
            return template.render(
                values | variables, messages=turns, add_generation_prompt=add_generation_prompt
            )
        except Exception as error:  # a template is a program: any operation in it may fail
            raise UserError(
                f"{self.file}: the chat template {self.name!r} fails in line {_line_of(error)}: "
                f"{str(error) or type(error).__name__}; correct the template there, or the conversation, if "
                "that is what it refuses"
            ) from None


def _line_of(error: Exception) -> int:
    """The template's line that raised `error`; jinja2 gives its frames the template's line numbers."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == "<template>"), 1)


def chat_templates(folder: Path) -> dict[str, ChatTemplate]:
    """All chat templates of a model's folder by name; the usual one is "default". Empty if it has none.

    Files go first, as in transformers: `chat_template.jinja` and `additional_chat_templates/*.jinja`, else
    `chat_template` of tokenizer_config.json (one, or a list of named ones), else that of chat_template.json.
    """
    settings = _json(folder / "tokenizer_config.json")
    tokens = special_tokens(folder)
    files = [*folder.glob("chat_template.jinja"), *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    if files:
        texts = {
            "default" if path.parent == folder else path.stem: (path.read_text(encoding="utf-8"), path)
            for path in files
        }
    else:
        file, older = folder / "tokenizer_config.json", folder / "chat_template.json"
        configured = settings.get("chat_template")
        if not configured and older.is_file():
            file, configured = older, _json(older).get("chat_template")
        try:
            texts = {name: (text, file) for name, text in named_templates(configured).items()}
        except (KeyError, TypeError):
            raise UserError(
                f"{file}: chat_template must be a text, or a list of {{name: ..., template: ...}}; correct it"
            ) from None
    return {name: ChatTemplate(name, text, file, tokens) for name, (text, file) in texts.items()}


def chat_template(folder: Path) -> ChatTemplate:
    """The template "default" of a model's folder, or its only one. Raises UserError if there is none."""
    templates = chat_templates(folder)
    if "default" not in templates and len(templates) != 1:
        raise UserError(
            f"{folder}: the model has no chat template"
            + (f" called default, only {', '.join(sorted(templates))}" if templates else "")
            + "; put one into chat_template.jinja there (that of the model's instruct variant, say)"
        )
    return templates.get("default") or next(iter(templates.values()))


def named_templates(configured: Any) -> dict[str, str]:
    """By name, what `chat_template` of tokenizer_config.json holds: a text, a list of named ones, or None."""
    if isinstance(configured, str):
        return {"default": configured}
    if isinstance(configured, Mapping):
        return dict(configured)
    return {entry["name"]: entry["template"] for entry in configured or []}


def with_eos(text: str, token: str) -> str:
    """A template's text for a tokenizer whose EOS is another: `eos_token` in it stays `token`."""
    try:
        if "eos_token" not in _get_template_variables(text):
            return text
    except jinja2.TemplateSyntaxError:
        return text
    # Jinja removes the line break after a block, and spaces before a block at the beginning of a line.
    return f"{{% set eos_token = {json.dumps(token, ensure_ascii=False)} %}}\n{text}"


def special_tokens(folder: Path) -> dict[str, str]:
    """Texts of the special tokens by name, from tokenizer_config.json, else special_tokens_map.json."""
    settings, older = (_json(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    tokens = {name: settings.get(name) or older.get(name) for name in NAMES}
    further = settings.get("extra_special_tokens")  # by name: image_token, ...
    tokens |= further if isinstance(further, dict) else {}
    texts = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if text}


def _json(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def template_problems(folder: Path) -> list[str]:
    """What is wrong with templates of a folder that don't render a question and an answer, one line each."""
    problems = []
    for template in chat_templates(folder).values():
        try:
            template.render(PLAIN)
        except UserError as error:
            problems.append(str(error))
    return problems
