"""Gradient checkpointing, whole and selective: equal gradients, its memory, and its repeated operations."""

from collections import Counter

import pytest
import torch
from random_llama import loss_and_gradients, random_llama
from torch.utils._python_dispatch import TorchDispatchMode

from cpt.train import costs
from cpt.train.losses import LossModel

KINDS = (False, "selective", True)


class Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        self.counts[operation.overloadpacket.__name__] += 1
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("documents", [[40], [13, 27]])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_checkpointing_changes_no_loss_and_no_gradient(documents, bfloat16):
    results = {}
    for kind in KINDS:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            results[kind] = loss_and_gradients(random_llama(), documents, kind)
    for kind in KINDS[1:]:
        assert torch.equal(results[kind][0], results[False][0])
        for gradient, expected in zip(results[kind][1], results[False][1], strict=True):
            assert torch.equal(gradient, expected)


def test_selective_checkpointing_repeats_norms_but_no_product_and_no_attention():
    counts = {}
    for kind in KINDS:
        with Operations() as operations:
            loss_and_gradients(random_llama(), [40], kind)
        counts[kind] = operations.counts
    products, attention, norms = "mm", "_scaled_dot_product_flash_attention_for_cpu", "rsqrt"
    assert counts["selective"][products] == counts[False][products] < counts[True][products]
    assert counts["selective"][attention] == counts[False][attention] == 3 < counts[True][attention]
    assert counts["selective"][norms] > counts[False][norms]


def test_selective_checkpointing_keeps_less_than_without_and_more_than_whole():
    kept = {}
    for kind in KINDS:
        model = LossModel(random_llama(), kind)
        ids = torch.ones(2, 40, dtype=torch.int64)
        with torch.profiler.profile(profile_memory=True) as profile:
            loss = model(ids, None, torch.ones(2, 39))
        kept[kind] = sum(event.self_cpu_memory_usage for event in profile.key_averages())
        del loss
    assert kept[True] < 0.8 * kept["selective"] and kept["selective"] < 0.8 * kept[False]


def test_plans_know_what_each_kind_keeps_and_costs():
    shape = costs.KNOWN_MODELS["HuggingFaceTB/SmolLM2-135M"]
    none, selective, whole = (
        costs.step_bytes(shape, 1, 2000, kind, "bf16", gpu=True)["activations"] for kind in KINDS
    )
    # By hand, for a layer and token: the input in float32; in bfloat16 queries, keys, values, the outputs of
    # attention and of the product after it, gate, up and down.
    kept = 4 * 576 + 2 * (576 + 192 + 192 + 576 + 576 + 1536 + 1536 + 576)
    assert selective - (whole - 30 * 2000 * 4 * 576) == 30 * 2000 * kept
    assert whole < selective < 0.6 * none
    hours = [costs.CPU.hours(10**6, shape, 2000, kind) for kind in KINDS]
    assert hours[0] == hours[1] < hours[2]
