"""Attention inside rows of prefix trees, for transformers' models: no padding, no mask over the whole row."""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from cpt.evaluate.trees import Tree, grow_trees

# Keys and values of a stem, [1, key heads, tokens, head width], by the layers' attention modules.
States = dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]

NAME = "prefix_trees"  # transformers' name of this attention
# Relative to the largest value: other shapes change the order of float32 sums, or bfloat16's rounding.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 1e-1}


class Place(NamedTuple):
    """The place of a tree in its row, and the mask of its tokens behind the trunk.

    `mask` [tokens behind the trunk, tokens of the tree]: 0 or -infinity; None without tokens behind the
    trunk. With a stem it has a row for each token of the tree, and the stem's tokens are its first columns.
    """

    begin: int
    trunk_end: int
    end: int
    mask: torch.Tensor | None


def _mask(tree: Tree, stem: int, like: torch.Tensor) -> torch.Tensor | None:
    first = 0 if stem else tree.trunk
    if first == len(tree):
        return None
    seen = torch.ones(len(tree) - first, stem + len(tree), dtype=torch.bool)
    seen[:, stem:] = False
    seen[: tree.trunk - first, stem:].fill_(True).tril_()
    for token, places in tree.rest():
        seen[token - first, [stem + place for place in places]] = True
    mask = torch.zeros(seen.shape, dtype=like.dtype).masked_fill_(~seen, -torch.inf)
    return mask.to(like.device)


def prefix_tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    places: list[Place] | None = None,
    stem: States | None = None,
    kept: States | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query, key, value are [1, heads, tokens, width].

    Returns [1, tokens, heads, width]. Each trunk uses causal attention, which has the fastest kernels; the
    tokens behind it use a small mask. All tokens see the `stem`; `kept` receives this row's keys and values.
    """
    if places is None:
        raise TypeError(f"{type(module).__name__} doesn't hand its arguments on to attention")
    if kept is not None:
        kept[module] = (key, value)
    groups = query.shape[1] // key.shape[1]
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
    if stem is not None:
        largest = max(place.end - place.begin for place in places)
        held = (pad(part, (0, 0, 0, largest)) for part in stem[module])
        keys, values = (part.repeat_interleave(groups, dim=1) for part in held)
        before = keys.shape[2] - largest
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    for begin, trunk_end, end, mask in places:
        if stem is not None:
            seen = before + end - begin
            keys[:, :, before:seen], values[:, :, before:seen] = key[:, :, begin:end], value[:, :, begin:end]
            q, k, v = query[:, :, begin:end], keys[:, :, :seen], values[:, :, :seen]
            whole = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
            out[:, begin:end] = whole.transpose(1, 2)
            continue
        q, k, v = (part[:, :, begin:trunk_end] for part in (query, key, value))
        trunk = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        out[:, begin:trunk_end] = trunk.transpose(1, 2)
        if mask is not None:
            q, k, v = query[:, :, trunk_end:end], key[:, :, begin:end], value[:, :, begin:end]
            rest = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
            out[:, trunk_end:end] = rest.transpose(1, 2)
    return out, None


AttentionInterface.register(NAME, prefix_tree_attention)


@torch.inference_mode()
def hidden_states(
    model: PreTrainedModel, trees: list[Tree], stem: States | None = None, kept: States | None = None
) -> torch.Tensor:
    """Returns the last hidden states, [tokens, width], of a row of trees in a model with attention NAME.

    The trees come after a `stem`, if there is one. `kept` receives the keys and values of the row.
    """
    like = model.get_input_embeddings().weight
    before = next(iter(stem.values()))[0].shape[2] if stem else 0
    places, begin = [], 0
    for tree in trees:
        places.append(Place(begin, begin + tree.trunk, begin + len(tree), _mask(tree, before, like)))
        begin += len(tree)
    ids = torch.tensor([[token for tree in trees for token in tree.tokens]], device=like.device)
    positions = torch.tensor([[p for tree in trees for p in tree.positions]], device=like.device)
    output = model.base_model(
        input_ids=ids, position_ids=positions, use_cache=False, places=places, stem=stem, kept=kept
    )
    return output.last_hidden_state[0]


def stem_states(model: PreTrainedModel, tokens: tuple[int, ...]) -> States:
    """Returns the keys and values of a stem, for the rows of trees after it."""
    kept: States = {}
    hidden_states(model, grow_trees([tokens], 0), kept=kept)
    return kept


@torch.inference_mode()
def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether prefix trees give the model's own hidden states. If so, the model keeps attention NAME.

    It is tested on a few tokens. It fails with attention windows, positions inside the attention (ALiBi),
    state space models, and architectures that don't pass arguments on to attention.
    """
    config, own = model.config, model.config._attn_implementation
    kinds = set(getattr(config, "layer_types", None) or [])
    windows = kinds - {"full_attention"} if kinds else getattr(config, "sliding_window", None)
    if windows:
        return False
    size = min(config.vocab_size, 97)
    beginning = tuple(token * 31 % size for token in range(12))
    sequences = [(*beginning, *(token * 17 % size for token in range(n, 2 * n))) for n in (1, 4, 6)]
    device = model.get_input_embeddings().weight.device
    expected = [
        model.base_model(input_ids=torch.tensor([ids], device=device), use_cache=False).last_hidden_state[0]
        for ids in sequences
    ]
    (tree,) = grow_trees(sequences, largest=100)
    stem = 5
    (behind,) = grow_trees([sequence[stem:] for sequence in sequences], largest=100, stem=stem)
    try:
        model.set_attn_implementation(NAME)
        alone = hidden_states(model, [tree, tree])[len(tree) :]
        stemmed = hidden_states(model, [behind, behind], stem_states(model, beginning[:stem]))[len(behind) :]
    except (AttributeError, TypeError, ValueError, RuntimeError, StopIteration):
        model.set_attn_implementation(own)
        return False
    pairs = [
        (states[path], expected[number][first:])
        for states, grown, first in ((alone, tree, 0), (stemmed, behind, stem))
        for path, number in zip(grown.paths, grown.numbers, strict=True)
    ]
    tolerance = TOLERANCES.get(model.dtype, 1e-1)
    same = all((one - other).abs().max() <= tolerance * other.abs().max() for one, other in pairs)
    if not same:
        model.set_attn_implementation(own)
    return same
