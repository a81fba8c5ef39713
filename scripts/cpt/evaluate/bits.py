"""Loss and bits per byte on held-out documents."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cpt.errors import UserError
from cpt.progress import Progress

TOKENS_PER_PASS = 2_048  # bounds the logits: 2,048 x 50,000 x 4 bytes = 0.4 GB


@dataclass
class HeldOut:
    """Token ids of the scored documents, and the UTF-8 bytes they stand for."""

    documents: list[list[int]]
    bytes: int

    @property
    def tokens(self) -> int:
        return sum(map(len, self.documents))


def _texts(path: Path) -> Iterator[str]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet file: {error}") from None
    if "text" not in file.schema_arrow.names:
        raise UserError(f"{path}: no column `text`; it has {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(batch_size=1_000, columns=["text"]):
        yield from (text for text in batch["text"].to_pylist() if text)


def read_held_out(path: Path, tokenizer: PreTrainedTokenizerFast, held_out_tokens: int) -> HeldOut:
    """Take documents in the file's order until there are `held_out_tokens` tokens.

    The document that goes over is cut at the end of a character and tokenised again, so that its bytes
    are exactly those of its tokens; the count can miss `held_out_tokens` by a few tokens.

    Raises UserError if the file isn't parquet with a `text` column, or has no text.
    """
    found = HeldOut([], 0)
    left = held_out_tokens
    for text in _texts(path):
        encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        if len(encoded.ids) > left:
            text = text[: encoded.offsets[left - 1][1]]
            encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        if encoded.ids:
            found.documents.append(encoded.ids)
            found.bytes += len(text.encode())
            left -= len(encoded.ids)
        if left <= 0:
            break
    if not found.documents:
        raise UserError(
            f"{path}: no text to score; raise held_out.share, so that documents of this corpus are held out"
        )
    return found


def windows(documents: list[list[int]], start_token: int, length: int) -> list[list[int]]:
    """Cut documents into windows of at most `length` predicted tokens, each after one token of context.

    The first window of a document starts after `start_token`, the others after the token before them: each
    token is predicted exactly once. (lm-eval's rolling log-likelihood with a context of one token.)
    """
    cut = []
    for document in documents:
        stream = [start_token, *document]
        cut += [stream[start : start + length + 1] for start in range(0, len(document), length)]
    return cut


@torch.inference_mode()
def _negative_log_likelihood(model: PreTrainedModel, batch: list[list[int]]) -> float:
    """Sum over all predicted tokens of a batch of windows, in nats."""
    width = max(map(len, batch))
    ids = torch.tensor([window + [-100] * (width - len(window)) for window in batch], device=model.device)
    # Padding stands at the end, where causal attention hides it.
    logits = model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.double().sum().item()


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    held_out_tokens: int,
    sequence_length: int,
    batch_size: int,
) -> dict[str, Any]:
    """Score `model` on held-out documents, each on its own after one EOS.

    Returns documents, tokens, bytes (UTF-8), loss (nats per token) and bits_per_byte, which is the sum of
    -log2 p over all tokens, divided by the bytes (Gao et al. 2020, The Pile, section 3.1); it compares
    models with different tokenizers.
    """
    held_out = read_held_out(path, tokenizer, held_out_tokens)
    length = min(sequence_length, model.config.max_position_embeddings)
    cut = sorted(windows(held_out.documents, model.config.eos_token_id, length), key=len, reverse=True)
    total, start = 0.0, 0
    with Progress("bits per byte", held_out.tokens, "token") as bar:
        while start < len(cut):
            rows = max(1, min(batch_size, TOKENS_PER_PASS // len(cut[start])))
            batch = cut[start : start + rows]
            total += _negative_log_likelihood(model, batch)
            bar.advance(sum(len(window) - 1 for window in batch))
            start += rows
    return {
        "documents": len(held_out.documents),
        "tokens": held_out.tokens,
        "bytes": held_out.bytes,
        "loss": total / held_out.tokens,
        "bits_per_byte": total / (math.log(2) * held_out.bytes),
    }
