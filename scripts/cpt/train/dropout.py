"""Dropout: the one part of training in which the micro-batch counts."""

import logging
import re
from typing import Any

# Keys of config.json, as model families call them; heads for other tasks than the next token don't count.
KEYS = re.compile(r"(?!classifier|summary)\w*(dropout|pdrop|layerdrop)\w*")


def dropout_of(config: Any) -> dict[str, float]:
    """The dropout of a transformers config by key, where it isn't 0."""
    entries = {key: value for key, value in sorted(config.to_dict().items()) if KEYS.fullmatch(key)}
    return {key: value for key, value in entries.items() if isinstance(value, float | int) and value > 0}


def warn_of_dropout(dropout: dict[str, float]) -> None:
    """Log what it means: a mask is drawn for a whole micro-batch, so what is dropped depends on its size."""
    if dropout:
        logging.warning(
            "the model has dropout (%s): results depend on train.micro_batch, the number of processes and "
            "the engine, as what is dropped is drawn for each micro-batch; keep them the same in runs to be "
            "compared, or set these keys to 0 in the base model's config.json",
            ", ".join(f"{key} {value:g}" for key, value in dropout.items()),
        )
