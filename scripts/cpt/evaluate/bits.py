"""Loss and bits per byte on held-out documents."""

import math
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from cpt.progress import Progress
from cpt.rotary import grouped_by_frequencies
from cpt.token_windows import HeldOut

TOKENS_PER_PASS = 2_048  # bounds the logits: 2,048 x 50,000 x 4 bytes = 0.4 GB


@torch.inference_mode()
def _negative_log_likelihood(
    model: PreTrainedModel, windows: list[np.ndarray], which: list[np.ndarray]
) -> list[float]:
    """Returns for each window of a batch the sum over its tokens that count, in nats.

    `windows` and `which` come from HeldOut.windows and HeldOut.counted.
    """
    rows = [torch.from_numpy(window.astype(np.int64)) for window in windows]
    ids = pad_sequence(rows, batch_first=True, padding_value=-100).to(model.device)  # [windows, longest]
    counted = pad_sequence([torch.from_numpy(each) for each in which], batch_first=True)
    targets = ids[:, 1:].masked_fill(~counted.to(model.device), -100)
    # Padding is at the end, where causal attention hides it.
    logits = model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
    )
    return losses.double().view_as(targets).sum(1).cpu().tolist()


def document_losses(
    model: PreTrainedModel, held_out: HeldOut, sequence_length: int, batch_size: int
) -> np.ndarray:
    """Returns each held-out document's loss, summed over its tokens that count: float64 [documents], nats.

    Each document is read separately after its start token (BOS or EOS), a conversation without one.
    """
    length = min(sequence_length, model.config.max_position_embeddings)
    cut = list(zip(held_out.windows(length), held_out.counted(length), held_out.owners(length), strict=True))
    cut.sort(key=lambda part: len(part[0]), reverse=True)
    losses, start = np.zeros(len(held_out.ends)), 0
    with Progress("bits per byte", int(held_out.predicted.sum()), "token") as bar:
        while start < len(cut):
            rows = max(1, min(batch_size, TOKENS_PER_PASS // len(cut[start][0])))
            lengths = [len(window) - 1 for window, *_ in cut[start : start + rows]]
            rows = len(grouped_by_frequencies(lengths, model.config)[0])
            windows, which, owners = map(list, zip(*cut[start : start + rows], strict=True))
            np.add.at(losses, owners, _negative_log_likelihood(model, windows, which))
            bar.advance(sum(int(each.sum()) for each in which))
            start += rows
    return losses


def summary(held_out: HeldOut, losses: np.ndarray) -> dict[str, Any]:
    """Sums up `document_losses`: documents, groups, tokens, bytes, loss (nats per token), bits_per_byte.

    bits_per_byte is the sum of -log2 p over all tokens, divided by the UTF-8 bytes (Gao et al. 2020, The
    Pile, section 3.1). It makes models with different tokenizers comparable.
    """
    tokens, size, total = int(held_out.predicted.sum()), int(held_out.bytes.sum()), math.fsum(losses)
    return {
        "documents": len(held_out.ends),
        "groups": held_out.group_count,
        "tokens": tokens,
        "bytes": size,
        "loss": total / tokens,
        "bits_per_byte": total / (math.log(2) * size),
    }


def bits_per_byte(
    model: PreTrainedModel, held_out: HeldOut, sequence_length: int, batch_size: int
) -> dict[str, Any]:
    """Score `model` on held-out documents. Returns the `summary` of their `document_losses`."""
    return summary(held_out, document_losses(model, held_out, sequence_length, batch_size))


def table_of(held_out: HeldOut, losses: np.ndarray) -> str:
    """Returns CSV text with a row per document: number, group, bytes, tokens that count, loss in nats."""
    columns = (held_out.groups, held_out.bytes, held_out.predicted, losses)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = [",".join(map(repr, (number, *row))) for number, row in enumerate(rows)]
    return "\n".join(["document,group,bytes,tokens,nats", *lines, ""])
