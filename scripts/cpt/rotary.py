"""Rotary frequencies chosen by each sequence's own length, not by the longest sequence of the batch.

Models with `rope_type: longrope` (Phi-3 and 4 mini; Ding et al. 2024) have two sets of frequencies, for
sequences of up to `original_max_position_embeddings` tokens and for longer ones. transformers chooses by the
largest position in the whole batch. Of the other types, only `dynamic` depends on the length, and only
beyond the model's context, where nothing is trained or scored.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def original_length(config: PreTrainedConfig) -> int | None:
    """Returns the most tokens of a sequence with a longrope model's frequencies for short ones, else None."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return (
        parameters["original_max_position_embeddings"] if parameters.get("rope_type") == "longrope" else None
    )


def grouped_by_frequencies(lengths: Sequence[int], config: PreTrainedConfig) -> list[list[int]]:
    """Returns the numbers of sequences of these lengths in groups that can share a batch, long ones first."""
    original = original_length(config)
    if original is None:
        return [list(range(len(lengths)))]
    groups: list[list[int]] = [[], []]
    for number, length in enumerate(lengths):
        groups[length <= original].append(number)
    return [group for group in groups if group]


def rotate_by_document(model: nn.Module) -> None:
    """Make a longrope model choose its frequencies document by document; other models don't change.

    A document begins at position 0, and ends before the next position 0.
    """
    original = original_length(model.config)
    for module in model.modules() if original is not None else ():
        if getattr(module, "rope_type", None) == "longrope":
            module.forward = _ByDocument(module, original).forward


class _ByDocument:
    """The forward pass of a rotary embedding of transformers, computed with both sets of frequencies."""

    def __init__(self, rotary: nn.Module, original: int):
        self.rotary, self.original = rotary, original
        self.plain = inspect.unwrap(type(rotary).forward)  # without the choice by the largest position
        frequencies = ROPE_INIT_FUNCTIONS["longrope"]
        self.sets = [frequencies(rotary.config, seq_len=length)[0] for length in (original, original + 1)]

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns cosines and sines, [sequences, length, rotated size]; position_ids [sequences, length]."""
        places = position_ids.flatten()
        document = (places == 0).cumsum(0) - 1
        last = torch.zeros_like(places).scatter_reduce(0, document, places, "amax")
        is_long = (last[document] >= self.original).view_as(position_ids)[..., None]
        both = []
        for inverse_frequencies in self.sets:
            self.rotary.inv_freq = inverse_frequencies.to(x.device)
            both.append(self.plain(self.rotary, x, position_ids))
        return tuple(torch.where(is_long, long, short) for short, long in zip(*both, strict=True))
