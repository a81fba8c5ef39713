"""Conversations as documents: messages joined into one text, and the rules that drop conversations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cpt.corpus.drops import Drop

# Separators in a document's text: before each message but the first, and between a role and its content.
NEXT, THEN = "\x1e", "\x1f"


class Message(NamedTuple):
    """One message of a conversation."""

    role: str
    content: str


def as_text(messages: Sequence[Message]) -> str:
    """A conversation as a document's text; `messages_of` reads it back."""
    return NEXT.join(f"{role}{THEN}{content}" for role, content in messages)


def messages_of(text: str) -> list[Message]:
    """The messages in a text that `as_text` wrote."""
    return [Message(*part.split(THEN)) for part in text.split(NEXT)] if text else []


class ConversationRules:
    """Finds conversations that can't be trained on; `names` lists the rules in the order they are tried.

    `no_answer`: no message is the assistant's. `empty_message`: one is only white space (a tool call, say).
    `roles`: after an optional system message, user and assistant don't take turns, or the assistant isn't
    last; the value is the number of the first message out of order, the threshold the number of messages.
    """

    names = ("no_answer", "empty_message", "roles")

    def check(self, text: np.ndarray) -> Drop | None:
        """The first rule that a conversation (UTF-8, uint8) breaks, or None."""
        messages = messages_of(bytes(text).decode())
        if not any(message.role == "assistant" for message in messages):
            return Drop("no_answer", 0.0, 1.0)
        if not all(message.content.strip() for message in messages):
            return Drop("empty_message", 0.0, 1.0)
        first = messages[0].role == "system"
        for number, message in enumerate(messages[first:], start=1):
            if message.role != ("user" if number % 2 else "assistant"):
                return Drop("roles", float(first + number), float(len(messages)))
        if messages[-1].role != "assistant":
            return Drop("roles", float(len(messages)), float(len(messages)))
        return None
