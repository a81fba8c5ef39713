"""Finds the token that separates documents and the tokens that end an answer, for every source of a model."""

import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

# Document ends of pre-training in several model families; they never end a chat turn.
DOCUMENT_ENDS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "</s>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
TURN_END = re.compile(r"im_end|end_?of_?(turn|utterance)|eot|eom|^<\|(end|return|call)\|>$", re.IGNORECASE)


@dataclass
class Ends:
    """`separator` follows each document; `generation` are all ids that end an answer, the separator first."""

    separator: int
    generation: list[int]


def find_ends(
    tokenizer: Tokenizer,
    config: Any,
    generation: Any,
    token: str | None,
    templates: str | dict[str, str] | None,
    further: Any = None,
) -> Ends | None:
    """Choose the document separator and the ends of an answer; None if the source names no end.

    The separator is the first of these that is a token and doesn't end a chat turn: `eos_token_id` of
    config.json (the tokenizer's EOS first, if listed), that of generation_config.json, the tokenizer's EOS.
    If all end turns, it is the vocabulary's own document end (DOCUMENT_ENDS), else the first of them. Tokens
    that a chat template writes literally end a turn, unless they are in DOCUMENT_ENDS.

    Args:
        tokenizer: with the vocabulary.
        config, generation: `eos_token_id` of the two files: an id, a list, or None.
        token: the tokenizer's EOS.
        templates: chat templates.
        further: other ids that end turns, from a GGUF file.
    """
    own = [] if token is None else [tokenizer.token_to_id(token)]
    end_ids = [*_valid_ids(config), *_valid_ids(generation), *own]
    end_ids = [id for id in dict.fromkeys(end_ids) if tokenizer.id_to_token(id) is not None]
    preferred = [id for id in own if id in _valid_ids(config)]
    if not end_ids:
        return None
    template_text = "".join(templates.values()) if isinstance(templates, dict) else templates or ""

    def ends_turn(id: int) -> bool:
        text = tokenizer.id_to_token(id)
        return text not in DOCUMENT_ENDS and (text in template_text or bool(TURN_END.search(text)))

    separator_ids = [id for text in DOCUMENT_ENDS if (id := tokenizer.token_to_id(text)) is not None]
    separator = [*(id for id in [*preferred, *end_ids] if not ends_turn(id)), *separator_ids, *end_ids][0]
    turns = [id for id in _valid_ids(further) if tokenizer.id_to_token(id) is not None]
    return Ends(separator, list(dict.fromkeys([separator, *end_ids, *turns])))


def _valid_ids(ids: Any) -> list[int]:
    return [id for id in (ids if isinstance(ids, list) else [ids]) if isinstance(id, int) and id >= 0]
