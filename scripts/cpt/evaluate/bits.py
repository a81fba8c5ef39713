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
def _negative_log_likelihood(model: PreTrainedModel, batch: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Sum over all tokens that count of a batch of windows (HeldOut.windows, HeldOut.counted), in nats."""
    windows = [torch.from_numpy(window.astype(np.int64)) for window, _ in batch]
    ids = pad_sequence(windows, batch_first=True, padding_value=-100).to(model.device)
    counted = pad_sequence([torch.from_numpy(which) for _, which in batch], batch_first=True)
    targets = ids[:, 1:].masked_fill(~counted.to(model.device), -100)
    # Padding stands at the end, where causal attention hides it.
    logits = model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none"
    )
    return losses.double().sum().item()


def bits_per_byte(
    model: PreTrainedModel, held_out: HeldOut, sequence_length: int, batch_size: int
) -> dict[str, Any]:
    """Score `model` on held-out documents, each on its own after their start token (BOS or EOS).

    Returns documents, tokens, bytes (UTF-8), loss (nats per token) and bits_per_byte, which is the sum of
    -log2 p over all tokens, divided by the bytes (Gao et al. 2020, The Pile, section 3.1); it compares
    models with different tokenizers.
    """
    length = min(sequence_length, model.config.max_position_embeddings)
    cut = list(zip(held_out.windows(length), held_out.counted(length), strict=True))
    cut.sort(key=lambda part: len(part[0]), reverse=True)
    total, start = 0.0, 0
    tokens = held_out.predicted
    with Progress("bits per byte", tokens, "token") as bar:
        while start < len(cut):
            rows = max(1, min(batch_size, TOKENS_PER_PASS // len(cut[start][0])))
            lengths = [len(window) - 1 for window, _ in cut[start : start + rows]]
            rows = len(grouped_by_frequencies(lengths, model.config)[0])
            batch = cut[start : start + rows]
            total += _negative_log_likelihood(model, batch)
            bar.advance(sum(int(which.sum()) for _, which in batch))
            start += rows
    return {
        "documents": len(held_out.ends),
        "tokens": tokens,
        "bytes": held_out.bytes,
        "loss": total / tokens,
        "bits_per_byte": total / (math.log(2) * held_out.bytes),
    }
