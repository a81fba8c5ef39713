"""Reads a user's file of prompts, and turns prompts into the token ids that a model reads.

Rules import it, so only the standard library is loaded at the top.
"""

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cpt.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COMMENT = "#"
ROLES = ("system", "user", "assistant")


class Prompt(NamedTuple):
    """A conversation that the assistant should answer, and its place: file and line."""

    messages: list[dict[str, str]]
    place: str

    @property
    def text(self) -> str:
        """The prompt for people: a single question unchanged; in longer conversations, turns with roles."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in self.messages)


def read_prompts(path: Path) -> list[Prompt]:
    """Read the prompts of a .txt file (one a line; blank lines and those that begin with # are skipped) or a
    .jsonl file ({"messages": [{"role": ..., "content": ...}, ...]} in each line).

    Raises UserError, naming file and line, if the file has another form or no prompt.
    """
    if path.suffix not in (".txt", ".jsonl"):
        raise UserError(f"chat.prompts: {path}: expected a file that ends in .txt or .jsonl; rename it")
    if not path.is_file():
        raise UserError(
            f"chat.prompts: {path}: there is no such file (relative to {Path.cwd()}); correct the path"
        )
    prompts = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        place = f"{path}, line {number}"
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
        if text and path.suffix == ".jsonl":
            prompts.append(Prompt(_messages(text, place), place))
        elif text and not text.startswith(COMMENT):
            prompts.append(Prompt([{"role": "user", "content": text}], place))
    if not prompts:
        raise UserError(f"chat.prompts: {path} has no prompt; write at least one line into it")
    return prompts


def _messages(text: str, place: str) -> list[dict[str, str]]:
    """Returns the messages in a line of JSON, the last of which must be the user's."""
    try:
        messages: Any = json.loads(text)["messages"]
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{place}: expected {{"messages": [{{"role": "user", "content": "..."}}]}}, but this isn\'t it '
            f"({type(error).__name__}: {error}); correct the line"
        ) from None
    for number, turn in enumerate(turns, 1):
        if turn["role"] not in ROLES or not isinstance(turn["content"], str):
            raise UserError(
                f"{place}: message {number} needs a role among {', '.join(ROLES)} and text as content; "
                "correct the line"
            )
    if not turns or turns[-1]["role"] != "user":
        raise UserError(f"{place}: the last message isn't the user's, so there is nothing to answer; add one")
    return turns


def encode_prompts(
    prompts: list[Prompt], model: Path, tokenizer: "PreTrainedTokenizerFast", room: int
) -> tuple[list[tuple[int, ...]], bool]:
    """Returns the token ids of each prompt, and whether the model's chat template rendered them.

    A model without a template gets the plain text, after BOS if its tokenizer adds it.

    Args:
        prompts: as read.
        model: the model's folder.
        tokenizer: the model's. Special strings are tokens in a rendered prompt, and text in a plain one.
        room: the maximum number of tokens of a prompt.

    Raises UserError naming the prompt's place if the template refuses it, or it has more tokens.
    """
    from cpt.templates import chat_template, chat_templates  # transformers takes seconds to load

    template = chat_template(model) if chat_templates(model) else None
    encoder, encoded = copy.deepcopy(tokenizer.backend_tokenizer), []
    encoder.encode_special_tokens = template is None
    for prompt in prompts:
        if template is None:
            ids = encoder.encode("\n\n".join(turn["content"] for turn in prompt.messages)).ids
        else:
            try:
                text = template.render(prompt.messages, add_generation_prompt=True)
            except UserError as error:
                raise UserError(f"{prompt.place}: {error}") from None
            ids = encoder.encode(text, add_special_tokens=False).ids
        if len(ids) > room:
            raise UserError(
                f"{prompt.place}: the prompt has {len(ids)} tokens, and beside chat.max_new_tokens the "
                f"context of {model} has room for {room}; shorten it"
            )
        encoded.append(tuple(ids))
    return encoded, template is not None
