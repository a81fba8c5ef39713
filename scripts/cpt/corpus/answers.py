"""Encode conversations with the model's chat template, and mark the assistant's tokens."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from cpt.corpus.conversations import Message
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.files import read_json
from cpt.templates import chat_template

# Markup with which templates separate turns, where it isn't a special token: <|user|>, [INST].
MARKUP = re.compile(r"<\|?[^<>\s]+\|?>|\[/?[A-Z_]+\]")
REASONING = {"<think>", "</think>"}  # belongs to answers, separates no turns
STAND_IN = re.compile("\ue000(\\d+)\ue001")  # for a message's content, in private-use characters


class Rendered(NamedTuple):
    """A conversation as the model reads it, and the (begin, end) of each answer in the text."""

    text: str
    spans: list[tuple[int, int]]


class ConversationTokenizer(ModelTokenizer):
    """A model's tokenizer with its chat template.

    Attributes: `template` (cpt.templates.ChatTemplate), `control` (matches what no message may contain: the
    strings of special tokens, and the template's other markup between turns).

    Raises UserError if the model's folder has no template, or one that doesn't render a plain conversation.
    """

    def __init__(self, model: Path):
        super().__init__(model)
        self.template = chat_template(model)
        self.rendered_tokenizer = Tokenizer.from_file(str(self.path))  # special strings become their tokens
        self.rendered_tokenizer.no_truncation()
        self.rendered_tokenizer.no_padding()
        added = self.definition.get("added_tokens") or []
        special = [token["content"] for token in added if token.get("special")]
        self.end = re.compile(rf"\s*({_any_of(special)})")
        self.ends = {self.rendered_tokenizer.id_to_token(id) for id in _generation_ends(model)}
        opened = self.template.render([_stand_in(0, "user")], add_generation_prompt=True)
        whole = self.template.render([_stand_in(0, "user"), _stand_in(1, "assistant")])
        markup = {tag for tag in MARKUP.findall(opened + whole) if tag not in REASONING}
        self.control = re.compile(_any_of({*special, *markup}))

    def rendered(self, messages: Sequence[Message], where: str) -> Rendered:
        """The conversation as the template writes it, and the spans of its answers.

        A span is an answer's content and the end-of-turn token after it. To find the spans, the conversation
        is rendered again with a stand-in for each content: the text around contents and stand-ins must be
        equal. Raises UserError, naming `where`, if the template refuses the conversation or changes a
        message by more than the white space around it.
        """
        turns = [message._asdict() for message in messages]
        try:
            text = self.template.render(turns)
            pieces = STAND_IN.split(
                self.template.render([_stand_in(n, m.role) for n, m in enumerate(messages)])
            )
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        return self._align(text, pieces, messages, where)

    def _align(self, text: str, pieces: list[str], messages: Sequence[Message], where: str) -> Rendered:
        """Find the spans; `pieces` alternate between the text around stand-ins and the stand-ins' numbers."""
        between, numbers = pieces[::2], [int(number) for number in pieces[1::2]]
        answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
        if [number for number in numbers if number in answers] != answers:
            raise UserError(
                f"{where}: the chat template ({self.template.file}) doesn't write each answer once and in "
                "order; correct the template, or remove the conversation"
            )
        last = self.end.match(between[-1])
        ends = self.ends | ({last[1]} if last else set())
        spans, place = [], len(between[0])
        kept = text.startswith(between[0])
        for number, following in zip(numbers, between[1:], strict=True):
            content = messages[number].content
            forms = (content, content.strip(), content.lstrip(), content.rstrip())
            form = next((form for form in forms if text.startswith(form + following, place)), None)
            if not kept or form is None:
                raise self._changed_message_error(messages, number, where)
            stop = place + len(form)
            if messages[number].role == "assistant":
                end = self.end.match(text, stop)
                spans.append((place, end.end() if end and end[1] in ends else stop))
            place = stop + len(following)
        if place != len(text):
            raise self._changed_message_error(messages, numbers[-1], where)
        return Rendered(text, spans)

    def _changed_message_error(self, messages: Sequence[Message], number: int, where: str) -> UserError:
        return UserError(
            f"{where}: the chat template ({self.template.file}) changes message {number + 1} of "
            f"{len(messages)} ({messages[number].role}: {messages[number].content[:60]!r}), so which of its "
            "tokens are the assistant's isn't known; take out what it changes, such as the reasoning in "
            "<think> of earlier answers, or take the conversation out"
        )

    def encode_rendered(self, conversations: Sequence[Rendered]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids (of `dtype`) of each conversation, and which of them are the assistant's (bool).

        The ids are those of transformers' apply_chat_template. A token is the assistant's if one of its
        characters is. Raises UserError if an id lies outside the model's vocabulary.
        """
        texts = [conversation.text for conversation in conversations]
        encodings = self.rendered_tokenizer.encode_batch(texts, add_special_tokens=False)
        pairs = []
        for (text, spans), encoding in zip(conversations, encodings, strict=True):
            answered = np.zeros(len(text) + 1, np.int64)
            for begin, end in spans:
                answered[begin + 1 : end + 1] = 1
            before = np.cumsum(answered)  # characters of answers before each place
            begins, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
            ids = self.checked(np.array(encoding.ids, np.uint32))
            pairs.append((ids, before[ends] > before[begins]))
        return pairs


def _stand_in(number: int, role: str) -> dict[str, str]:
    return {"role": role, "content": f"\ue000{number}\ue001"}


def _any_of(texts: Any) -> str:
    """A pattern that matches any of these texts, the longest first; without texts it never matches."""
    return "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text))) or "(?!)"


def _generation_ends(model: Path) -> list[int]:
    """The token ids that end an answer, from generation_config.json."""
    file = model / "generation_config.json"
    ends = read_json(file).get("eos_token_id") if file.is_file() else None
    return [id for id in (ends if isinstance(ends, list) else [ends]) if id is not None]
