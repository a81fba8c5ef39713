"""Lean layers: the same losses and gradients as transformers' own, with less kept in memory."""

import copy

import pytest
import torch
from random_llama import SIZES, loss_and_gradients, random_llama
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from cpt.train import block_attention
from cpt.train.block_attention import causal_blocks, masked_blocks
from cpt.train.lean_layers import AttentionHalf, FeedForwardHalf, make_lean
from cpt.train.losses import LossModel
from cpt.train.workspace import Workspace


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("documents", [[40], [13, 27], [1, 20, 19]])
def test_same_loss_and_gradients(documents, checkpointing, monkeypatch):
    monkeypatch.setattr(block_attention, "ROWS", 36)  # blocks of 12 queries of 40
    model = random_llama()
    lean = copy.deepcopy(model)
    assert make_lean(lean)
    expected, gradients = loss_and_gradients(model, documents, checkpointing)
    found, others = loss_and_gradients(lean, documents, checkpointing)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    for (name, _), gradient, other in zip(model.named_parameters(), gradients, others, strict=True):
        assert (other - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_gradients_against_finite_differences(monkeypatch):
    """In float64, where the layers themselves would be left as they are; in blocks of two queries."""
    monkeypatch.setattr(block_attention, "ROWS", 4)
    generator, workspace = torch.Generator().manual_seed(2), Workspace(torch.float64)

    def check(function, *shapes):
        tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in tensors])

    check(lambda *x: FeedForwardHalf.apply(*x, workspace, 1e-6), (1, 3, 4), (4,), (6, 4), (6, 4), (4, 6))
    # Two heads of keys of size 2 with two queries each, 5 positions, with and without documents.
    angles = torch.rand(1, 5, 1, generator=generator, dtype=torch.float64).expand(1, 5, 2)
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    seen[3:, :3] = False
    for blocks in ([causal_blocks(5, 2)], [masked_blocks(seen, 2), causal_blocks(5, 2)]):
        others = (angles.cos(), angles.sin(), blocks, workspace, 1e-6, 2, 0.7)
        weights = [(8, 4), (4, 4), (4, 4), (4, 8)]
        check(lambda *x, others=others: AttentionHalf.apply(*x, *others), (len(blocks), 5, 4), (4,), *weights)


def test_blocks_leave_out_what_no_query_sees(monkeypatch):
    monkeypatch.setattr(block_attention, "ROWS", 8)
    seen = torch.ones(10, 10, dtype=torch.bool).tril()
    seen[6:, :6] = False
    found = [block[:4] for block in masked_blocks(seen, 2)]
    assert found == [(0, 4, 0, 0), (4, 8, 0, 0), (8, 10, 6, 6)]
    assert [block[:4] for block in causal_blocks(10, 2)] == [(0, 4, 0, 0), (4, 8, 0, 4), (8, 10, 0, 8)]


def test_less_is_kept_for_the_backward_pass():
    def kept(lean: bool, checkpointing: bool) -> int:
        model, storages = random_llama(), {}
        if lean:
            assert make_lean(model)
        loss = LossModel(model, checkpointing)

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            hidden = loss.hidden(torch.zeros(2, 64, dtype=torch.long), None)
        assert hidden.requires_grad
        return sum(size for address, size in storages.items() if address not in own)

    assert kept(lean=True, checkpointing=False) < 0.6 * kept(lean=False, checkpointing=False)
    assert kept(lean=True, checkpointing=True) <= kept(lean=False, checkpointing=True)


def test_saved_weights_keep_their_names(tmp_path):
    model = random_llama()
    names = list(model.state_dict())
    assert make_lean(model) and list(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in model.state_dict().items())


def test_other_layers_are_left_alone():
    biased = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=6, attention_bias=True))
    other = GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, num_attention_heads=6))
    for model in (biased, other, LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=6)).double()):
        assert not make_lean(model)
