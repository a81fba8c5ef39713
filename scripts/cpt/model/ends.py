"""Which token separates documents, and which end an answer: one rule for every source of a model."""

import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

# Ends of documents in pre-training, as model families call them; never the end of a chat turn.
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
    """`separator` stands after each document; `generation` are all ids that end an answer, it first."""

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
    """Choose the document separator; None if the source names no end at all.

    The first of the following that is a token and doesn't end a chat turn: `eos_token_id` of config.json,
    that of generation_config.json, the tokenizer's EOS. Of several in one list, the tokenizer's EOS goes
    first. If all of them end turns, it is the vocabulary's own end of documents (DOCUMENT_ENDS), and only
    without such a token the first of them. What a chat template writes literally ends a turn.

    Args:
        tokenizer: with the vocabulary.
        config, generation: `eos_token_id` as the two files have it: an id, a list, or None.
        token: the tokenizer's EOS.
        templates: chat templates.
        further: ids that end turns and are named elsewhere (GGUF).
    """
    own = [] if token is None else [tokenizer.token_to_id(token)]
    end_ids = [*_listed(config), *_listed(generation), *own]
    end_ids = [id for id in dict.fromkeys(end_ids) if tokenizer.id_to_token(id) is not None]
    preferred = [id for id in own if id in _listed(config)]
    if not end_ids:
        return None
    template_text = "".join(templates.values()) if isinstance(templates, dict) else templates or ""

    def ends_turn(id: int) -> bool:
        text = tokenizer.id_to_token(id)
        return text not in DOCUMENT_ENDS and (text in template_text or bool(TURN_END.search(text)))

    separator_ids = [id for text in DOCUMENT_ENDS if (id := tokenizer.token_to_id(text)) is not None]
    separator = [*(id for id in [*preferred, *end_ids] if not ends_turn(id)), *separator_ids, *end_ids][0]
    turns = [id for id in _listed(further) if tokenizer.id_to_token(id) is not None]
    return Ends(separator, list(dict.fromkeys([separator, *end_ids, *turns])))


def _listed(ids: Any) -> list[int]:
    return [id for id in (ids if isinstance(ids, list) else [ids]) if isinstance(id, int) and id >= 0]
