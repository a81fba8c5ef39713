"""Dropout: the only part of training whose result depends on the micro-batch."""

import logging
import re
from typing import Any

# Keys of config.json in the model families, except those of heads for other tasks than the next token.
KEYS = re.compile(r"(?!classifier|summary)\w*(dropout|pdrop|layerdrop)\w*")


def dropout_of(config: Any) -> dict[str, float]:
    """The dropout rates of a transformers config that aren't 0, by key."""
    entries = {key: value for key, value in sorted(config.to_dict().items()) if KEYS.fullmatch(key)}
    return {key: value for key, value in entries.items() if isinstance(value, float | int) and value > 0}


def warn_of_dropout(dropout: dict[str, float]) -> None:
    """Warn that results depend on the micro-batch's size, since one mask is drawn for a whole micro-batch."""
    if dropout:
        logging.warning(
            "the model has dropout (%s): results depend on train.micro_batch, the number of processes and "
            "the engine, as what is dropped is drawn for each micro-batch; keep them the same in runs to be "
            "compared, or set these keys to 0 in the base model's config.json",
            ", ".join(f"{key} {value:g}" for key, value in dropout.items()),
        )
