"""Loads a text classifier with one score, such as FineWeb-Edu's (Penedo et al. 2024), and scores texts."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cpt.errors import UserError

MAXIMUM_TOKENS = 512  # as in the training of FineWeb-Edu's classifier
BEGINNING = 50_000  # tokenized characters of a text, far more than MAXIMUM_TOKENS need
SORTED = 1_024  # texts that are sorted by length together, so that batches need little padding


def load_classifier(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model for sequence classification, in float32, and its tokenizer; never runs the folder's code.

    Raises UserError for an architecture that transformers doesn't have, for weights that are missing or not
    safetensors, and for a model with several scores.
    """
    advice = "name a folder or repository with config.json, *.safetensors and a tokenizer in `classifier`"
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, SafetensorError, StrictDataclassError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"classifier: {folder} can't be read ({why}); {advice}") from None
    if missing := sorted(map(str, report["missing_keys"])):
        raise UserError(f"classifier: the weights in {folder} lack {', '.join(missing[:3])}; {advice}")
    if model.config.num_labels != 1:
        raise UserError(
            f"classifier: {folder} gives {model.config.num_labels} scores, not one; name a model that was "
            "trained for regression"
        )
    return model.eval(), tokenizer


def scores_of(
    texts: Iterable[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Iterator[np.ndarray]:
    """Yields the model's raw output (float32) for the beginnings of up to `SORTED` texts at a time, in order.

    Texts that are only white space get NaN.
    """
    texts = iter(texts)
    while chunk := list(islice(texts, SORTED)):
        scores = np.full(len(chunk), np.nan, np.float32)
        encoded = tokenizer([text[:BEGINNING] for text in chunk], truncation=True, max_length=MAXIMUM_TOKENS)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted((n for n, text in enumerate(chunk) if text.strip()), key=lambda n: -lengths[n])
        for begin in range(0, len(order), batch_size):
            places = order[begin : begin + batch_size]
            rows = {name: [values[place] for place in places] for name, values in encoded.items()}
            padded = tokenizer.pad(rows, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                logits = model(**padded).logits  # [batch, 1]
            scores[places] = logits[:, 0].float().cpu().numpy()
        yield scores
