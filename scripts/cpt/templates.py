"""Chat templates of a model's folder: reads them, and renders conversations as the text a model reads.

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

# Some templates write the date into the system's turn (Llama 3.2, SmolLM3). A fixed date gives the same text
# every day; Llama's template uses this one if it can't ask for the date.
TODAY = date(2024, 7, 26)
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
PLAIN = ({"role": "user", "content": "What is a star?"}, {"role": "assistant", "content": "A ball of gas."})
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template. `text` was read from `file`; `tokens` are special tokens by their names in it."""

    name: str
    text: str
    file: Path
    tokens: Mapping[str, str]

    def render(self, messages: Messages, add_generation_prompt: bool = False, **variables: Any) -> str:
        """Returns the conversation as text with its special tokens: encode it without adding any.

        Equals transformers' tokenizer.apply_chat_template(messages, tokenize=False) on the day TODAY.

        Args:
            messages: dictionaries with `role` and `content`, as in a JSON file.
            add_generation_prompt: whether the text ends with the beginning of an assistant's turn.
            variables: other variables of the template (tools, enable_thinking, ...).

        Raises UserError, naming file and line, if the template isn't valid or refuses the conversation, for
        example because of the order of roles.
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
    """Returns the template's line that raised `error`; jinja2's frames have the template's line numbers."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == "<template>"), 1)


def chat_templates(folder: Path) -> dict[str, ChatTemplate]:
    """Returns all chat templates of a model's folder by name, {} if it has none. The usual name is "default".

    The order is that of transformers: `chat_template.jinja` and `additional_chat_templates/*.jinja`, else
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
    """Returns a model folder's template "default", or its only one. Raises UserError if it has neither."""
    templates = chat_templates(folder)
    if "default" not in templates and len(templates) != 1:
        raise UserError(
            f"{folder}: the model has no chat template"
            + (f" called default, only {', '.join(sorted(templates))}" if templates else "")
            + "; put one into chat_template.jinja there (that of the model's instruct variant, say)"
        )
    return templates.get("default") or next(iter(templates.values()))


def named_templates(configured: Any) -> dict[str, str]:
    """Returns the templates in `chat_template` of tokenizer_config.json (text, list or None) by name."""
    if isinstance(configured, str):
        return {"default": configured}
    if isinstance(configured, Mapping):
        return dict(configured)
    return {entry["name"]: entry["template"] for entry in configured or []}


def with_eos(text: str, token: str) -> str:
    """Returns a template's text in which `eos_token` stays `token`, although the tokenizer's EOS changes."""
    try:
        if "eos_token" not in _get_template_variables(text):
            return text
    except jinja2.TemplateSyntaxError:
        return text
    # Jinja removes the line break after a block, and spaces before a block at the beginning of a line.
    return f"{{% set eos_token = {json.dumps(token, ensure_ascii=False)} %}}\n{text}"


def special_tokens(folder: Path) -> dict[str, str]:
    """Returns the special tokens' texts by name, from tokenizer_config.json, else special_tokens_map.json."""
    settings, older = (_json(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    tokens = {name: settings.get(name) or older.get(name) for name in NAMES}
    further = settings.get("extra_special_tokens")  # by name: image_token, ...
    tokens |= further if isinstance(further, dict) else {}
    texts = {name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if text}


def _json(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def template_problems(folder: Path) -> list[str]:
    """Returns an error message for each template of a folder that can't render a question and an answer."""
    problems = []
    for template in chat_templates(folder).values():
        try:
            template.render(PLAIN)
        except UserError as error:
            problems.append(str(error))
    return problems
