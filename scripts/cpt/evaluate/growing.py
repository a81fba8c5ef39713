"""A batch of sequences that a model continues: rows join and leave, and a cache holds their states."""

import inspect
from collections.abc import Sequence

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from cpt.rotary import original_length


def rows_can_join(model: PreTrainedModel) -> bool:
    """Whether a model's only states are keys and values, in which padding can be masked.

    False for state space models and models with other states.
    """
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer} and not model._is_stateful


def rows_can_share(model: PreTrainedModel) -> bool:
    """Whether rows can begin with keys and values that were computed once for all of them.

    False with attention windows, whose layers keep only the last tokens, and if the rotary frequencies depend
    on the length.
    """
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return kinds == {DynamicLayer} and not model._is_stateful and original_length(model.config) is None


class GrowingBatch:
    """Rows padded on the left, with a transformers cache of their keys and values."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.device = model.get_input_embeddings().weight.device
        self.accepted = inspect.signature(model.forward).parameters.keys()
        self.cache: DynamicCache | None = None
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=self.device)  # [rows, width]; 0 is padding
        self.stem: tuple[int, ...] = ()
        self.stem_cache: DynamicCache | None = None  # one row

    def add(self, prompts: Sequence[Sequence[int]], stem: tuple[int, ...] = ()) -> torch.Tensor:
        """Read prompts as additional rows. Returns the logits after them, [prompts, vocabulary].

        All prompts begin with `stem` and are longer. The stem is read once for consecutive calls with it.
        """
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        ids, mask = ids.to(self.device), mask.to(self.device)
        cache = self._start_cache(stem, [width - len(prompt) for prompt in prompts])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # As many tokens at the end of each prompt as the longest prompt has behind the stem.
        logits = self._forward(ids[:, len(stem) :], mask, positions[:, len(stem) :], cache)
        if self.cache is None:
            self.cache, self.mask = cache, mask
            return logits
        longest = max(int(self.mask.sum(-1).max()), width)
        for each in (cache, self.cache):
            _set_width(each, longest)
        for layer, joining in zip(self.cache.layers, cache.layers, strict=True):
            layer.keys = torch.cat([layer.keys, joining.keys])
            layer.values = torch.cat([layer.values, joining.values])
        self.mask = torch.cat([pad(each, (longest - each.shape[1], 0)) for each in (self.mask, mask)])
        return logits

    def _start_cache(self, stem: tuple[int, ...], paddings: Sequence[int]) -> DynamicCache:
        """Returns a cache as wide as the stem. Each row has its padding first, then the stem's beginning."""
        cache = DynamicCache(config=self.model.config)
        if not stem:
            return cache
        if stem != self.stem:
            ids = torch.tensor([stem], device=self.device)
            self.stem, self.stem_cache = stem, DynamicCache(config=self.model.config)
            positions = torch.arange(len(stem), device=self.device)[None]
            self._forward(ids, torch.ones_like(ids), positions, self.stem_cache)
        for number, layer in enumerate(self.stem_cache.layers):
            cache.update(*(_behind_padding(part, paddings) for part in (layer.keys, layer.values)), number)
        return cache

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read one more token in each row. Returns the logits after them, [rows, vocabulary]."""
        self.mask = pad(self.mask, (0, 1), value=1)
        positions = self.mask.sum(-1, keepdim=True) - 1
        ids = torch.tensor(tokens, device=self.device)[:, None]
        return self._forward(ids, self.mask, positions, self.cache)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows except these."""
        if not rows:
            self.cache, self.mask = None, self.mask[:0, :0]
        elif len(rows) < len(self.mask):
            index = torch.tensor(rows, device=self.device)
            self.cache.batch_select_indices(index)
            self.mask = self.mask[index]

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Returns the logits after each row's last token; ids, positions [rows, new], mask [rows, width]."""
        arguments = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}
        arguments = {name: value for name, value in arguments.items() if name in self.accepted}
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True, **arguments).logits[:, -1]


def _behind_padding(part: torch.Tensor, paddings: Sequence[int]) -> torch.Tensor:
    """Returns a stem's keys or values, [1, heads, tokens, head width], as rows shifted by `paddings`."""
    rows = part.new_zeros(len(paddings), *part.shape[1:])
    size = part.shape[2]
    for row, padding in zip(rows, paddings, strict=True):
        if padding < size:
            row[:, padding:] = part[0, :, : size - padding]
    return rows


def _set_width(cache: DynamicCache, width: int) -> None:
    """Crop or pad a cache on the left to the part of `width` tokens that each layer keeps."""
    for layer in cache.layers:
        held = width
        if isinstance(layer, DynamicSlidingWindowLayer):
            held = min(width, layer.sliding_window - 1)
            layer.cumulative_length = width
        missing = held - layer.keys.shape[2]  # keys [rows, heads, tokens, head width]
        layer.keys = pad(layer.keys, (0, 0, missing, 0))
        layer.values = pad(layer.values, (0, 0, missing, 0))
