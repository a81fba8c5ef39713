"""Writes the Modelfile from which Ollama makes a model: GGUF file, chat template, ends of answers.

https://docs.ollama.com/modelfile
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from cpt.files import read_json

SYSTEM, TURNS = "Be brief.", (("user", "Hello!"), ("assistant", "Good day."), ("user", "How are you?"))
# generation_config.json's names of sampling settings, and Ollama's.
SAMPLING = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
SAMPLING |= {"repetition_penalty": "repeat_penalty"}


@dataclass(frozen=True)
class Format:
    """The chat format of a family of models.

    `turn` is a Python format string with {role} and {content}, `assistant` the text before an answer,
    `template` the format in Go's template language, `model` the assistant's role name. `system`: a system
    message is a separate turn; else it is put before the first user message, with an empty line between.
    """

    turn: str
    assistant: str
    template: str
    model: str = "assistant"
    system: bool = True

    def conversation(self, turns: Sequence[tuple[str, str]]) -> str:
        """Returns a conversation as text, with the beginning of the answer."""
        roles = {"assistant": self.model}
        if not self.system and turns[0][0] == "system":
            first = f"{turns[0][1]}\n\n{turns[1][1]}"
            turns = [(turns[1][0], first), *turns[2:]]
        written = (self.turn.format(role=roles.get(role, role), content=content) for role, content in turns)
        return "".join(written) + self.assistant


# As in the templates that come with Ollama (https://github.com/ollama/ollama/tree/main/template).
FORMATS = {
    "chatml": Format(
        "<|im_start|>{role}\n{content}<|im_end|>\n",
        "<|im_start|>assistant\n",
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n",
    ),
    "llama3": Format(
        "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>"
        "{{- end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma": Format(
        "<start_of_turn>{role}\n{content}<end_of_turn>\n",
        "<start_of_turn>model\n",
        '{{- range $i, $_ := .Messages }}{{ if eq .Role "user" }}<start_of_turn>user\n'
        "{{ if and $.System (le $i 1) }}{{ $.System }}\n\n{{ end }}{{ .Content }}<end_of_turn>\n"
        '{{ else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}<end_of_turn>\n'
        "{{ end }}{{ end }}<start_of_turn>model\n",
        model="model",
        system=False,
    ),
    "zephyr": Format(
        "<|{role}|>\n{content}</s>\n",
        "<|assistant|>\n",
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}</s>\n{{ end }}<|assistant|>\n",
    ),
}


def preferred(names: Sequence[str]) -> str:
    """Returns which of a model's GGUF files to run: Q8_0, which loses almost nothing, else the smallest."""
    order = ("Q8_0.gguf", "Q4_K_M.gguf", "F16.gguf")
    return min(names, key=lambda name: order.index(name.rpartition("-")[2]))


def modelfile(folder: Path, file: str, ends: Sequence[int]) -> str:
    """Returns the text of a Modelfile beside a GGUF file.

    Args:
        folder: Hugging Face folder of the model, with its tokenizer and generation settings.
        file: name of the GGUF file.
        ends: ids that end an answer.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    generation = folder / "generation_config.json"
    settings = read_json(generation) if generation.is_file() else {}
    lines = [f"FROM ./{file}", "", *_template(tokenizer), ""]
    lines += [
        f"PARAMETER {name} {settings[key]}" for key, name in SAMPLING.items() if settings.get(key) is not None
    ]
    stops = [tokenizer.convert_ids_to_tokens(id) for id in ends]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join(lines) + "\n"


def _template(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Returns the Modelfile's lines about the chat template."""
    if not tokenizer.chat_template:
        return ["# A model without a chat template: it continues the prompt.", 'TEMPLATE "{{ .Prompt }}"']
    name = recognised(tokenizer)
    if name is None:
        return [
            "# Ollama compares the chat template in the GGUF file with those that it knows. If its answers",
            "# are odd, write TEMPLATE here, in Go's template language (https://docs.ollama.com/template).",
        ]
    lines = [f'TEMPLATE """{FORMATS[name].template}"""']
    if default := _default_system(tokenizer, FORMATS[name]):
        lines.append(f'SYSTEM """{default}"""')
    return lines


def recognised(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """Returns the name of the format that equals the tokenizer's chat template; None: no format does."""
    turns = [("system", SYSTEM), *TURNS]
    text = _rendered(tokenizer, turns)
    return next((name for name, kind in FORMATS.items() if kind.conversation(turns) == text), None)


def _rendered(tokenizer: PreTrainedTokenizerFast, turns: Sequence[tuple[str, str]]) -> str | None:
    """Returns a conversation in the model's own template, without BOS, which Ollama adds; None if refused."""
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return None
    return text.removeprefix(tokenizer.bos_token or "")


def _default_system(tokenizer: PreTrainedTokenizerFast, kind: Format) -> str | None:
    """Returns the system message that the template adds to a conversation without one."""
    text = _rendered(tokenizer, TURNS) or ""
    before, _, after = kind.turn.partition("{content}")
    start, end = before.format(role="system"), after + kind.conversation(TURNS)
    whole = text.startswith(start) and text.endswith(end) and len(text) > len(start + end)
    if kind.system and whole:
        return text.removeprefix(start).removesuffix(end)
    return None
