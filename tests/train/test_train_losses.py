"""The loss: its targets, its pieces, and its separate documents."""

import numpy as np
import pytest
import torch
from packed_mixture import write_packed
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from cpt.train import losses
from cpt.train.batches import PackedSequences, on_device
from cpt.train.losses import HeadLoss, LossModel


def plain_batch(batch, weights=None):
    """Arguments of LossModel for whole sequences without document masks."""
    weights = torch.ones(len(batch)) if weights is None else torch.tensor(weights)
    return batch, None, weights[:, None].expand(-1, 63)


def gradients(model, loss):
    """All gradients of a loss by parameter name, float32."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close_relative(one, other, tolerance):
    """Assert a small relative difference in the L2 norm."""
    assert (one - other).norm() <= tolerance * other.norm()


def test_loss_is_the_sum_over_targets_and_splits_add_up(model_folder):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    batch = torch.randint(0, 101, (4, 64), generator=torch.Generator().manual_seed(0))
    expected = model(batch, labels=batch).loss.item() * 4 * 63
    whole = LossModel(model, save_memory=False)
    assert whole(*plain_batch(batch)).item() == pytest.approx(expected, rel=1e-6)
    parts = whole(*plain_batch(batch[:1])) + whole(*plain_batch(batch[1:]))
    assert parts.item() == pytest.approx(expected, rel=1e-6)
    weighted = whole(*plain_batch(batch, [1.0, 0.0, 0.0, 1.0]))
    chosen = whole(*plain_batch(batch[[0, 3]]))
    assert weighted.item() == pytest.approx(chosen.item(), rel=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 50, 1000])
def test_pieces_equal_the_whole(rows, bias, monkeypatch):
    monkeypatch.setitem(losses.LOGIT_ROWS, "cpu", rows)
    torch.manual_seed(0)
    hidden, head = torch.randn(200, 24), torch.nn.Linear(24, 301, bias)
    targets, weights = torch.randint(0, 301, (200,)), torch.rand(200)
    weights[::7] = 0

    def loss_and_gradients(loss_function):
        head.zero_grad()
        leaf = hidden.clone().requires_grad_()
        loss = loss_function(leaf)
        (loss * 0.37).backward()
        return loss.detach(), leaf.grad, *(p.grad for p in head.parameters())

    pieces = loss_and_gradients(lambda hidden: HeadLoss(head)(hidden, targets, weights))
    double = head.double()
    exact = loss_and_gradients(
        lambda hidden: (cross_entropy(double(hidden.double()), targets, reduction="none") * weights).sum()
    )
    assert pieces[0].dtype == torch.float32
    assert len(pieces) == 3 + bias
    for one, other in zip(pieces, exact, strict=True):
        assert_close_relative(one, other, 1e-6)
    assert not pieces[1][::7].any()


def test_frozen_head_and_no_gradients_required():
    head = torch.nn.Linear(8, 30, bias=False).requires_grad_(False)
    hidden = torch.randn(5, 8, requires_grad=True)
    loss = HeadLoss(head)(hidden, torch.arange(5), torch.ones(5))
    loss.backward()
    reference = hidden.detach().clone().requires_grad_()
    cross_entropy(head(reference), torch.arange(5), reduction="sum").backward()
    assert_close_relative(hidden.grad, reference.grad, 1e-6)
    assert head.weight.grad is None
    alone = HeadLoss(head)(hidden.detach(), torch.arange(5), torch.ones(5))
    assert torch.equal(alone, loss.detach()) and not alone.requires_grad


def test_bfloat16_autocast_keeps_softmax_and_sums_in_float32():
    torch.manual_seed(0)
    hidden, head = torch.randn(600, 32, requires_grad=True), torch.nn.Linear(32, 500, bias=False)
    targets, weights = torch.randint(0, 500, (600,)), torch.ones(600)
    with torch.autocast("cpu", torch.bfloat16):
        loss = HeadLoss(head)(hidden, targets, weights)
        reference = cross_entropy(head(hidden).float(), targets, reduction="sum")
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    own = torch.autograd.grad(loss, (hidden, head.weight))
    for one, other in zip(own, torch.autograd.grad(reference, (hidden, head.weight)), strict=True):
        assert one.dtype == torch.float32
        assert_close_relative(one, other, 0.01)


def test_selected_targets_in_bfloat16_are_those_of_float32_with_nearly_its_gradients():
    torch.manual_seed(0)
    hidden, head = torch.randn(4 * 50, 32, requires_grad=True), torch.nn.Linear(32, 500, bias=False)
    targets, weights = torch.randint(0, 500, (200,)), torch.ones(200)
    # References far apart, so that rounding changes no order: 30 of each 50 targets.
    reference = torch.rand(4, 50).argsort(dim=1).mul(2.0).half()
    sequences = torch.arange(4).repeat_interleave(30)
    selection = (reference, sequences, torch.arange(30).repeat(4))
    single = HeadLoss(head)(hidden, targets, weights, *selection)
    with torch.autocast("cpu", torch.bfloat16):
        half = HeadLoss(head)(hidden, targets, weights, *selection)
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(single.tolist(), rel=2e-3)
    gradients_in_half, expected = (
        torch.autograd.grad(loss[0], (hidden, head.weight)) for loss in (half, single)
    )
    chosen = [gradient.abs().sum(1) > 0 for gradient in (gradients_in_half[0], expected[0])]
    assert torch.equal(*chosen) and chosen[0].sum() == 120
    for one, other in zip(gradients_in_half, expected, strict=True):
        assert_close_relative(one, other, 0.02)


@pytest.mark.parametrize("tied", [True, False])
def test_whole_model_has_the_gradients_of_transformers_own_loss(model_folder, monkeypatch, tied):
    monkeypatch.setitem(losses.LOGIT_ROWS, "cpu", 50)
    batch = torch.randint(0, 101, (3, 64), generator=torch.Generator().manual_seed(0))
    model = AutoModelForCausalLM.from_pretrained(model_folder, tie_word_embeddings=tied)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    expected = gradients(model, model(batch, labels=batch).loss * 3 * 63)
    for save_memory in (False, True):
        actual = gradients(model, LossModel(model, save_memory)(*plain_batch(batch)))
        assert actual.keys() == expected.keys()
        for name in expected:
            assert_close_relative(actual[name], expected[name], 2e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("save_memory", [False, True])
def test_masked_documents_are_as_if_alone(model_folder, packed_documents, documents, attention, save_memory):
    packed = PackedSequences(packed_documents, document_masking=True)
    model = AutoModelForCausalLM.from_pretrained(model_folder, attn_implementation=attention).train()
    alone = [document for sequence in documents[:5] for document in sequence if len(document) > 1]
    losses_alone = [
        model(torch.tensor([ids]), labels=torch.tensor([ids])).loss * (len(ids) - 1) for ids in alone
    ]
    expected_loss = sum(losses_alone)
    expected = gradients(model, expected_loss)
    batch = packed.batch(np.arange(5), np.ones(5, np.float32))
    loss = LossModel(model, save_memory)(*on_device(batch, torch.device("cpu")))
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6)
    actual = gradients(model, loss)
    for name in expected:
        assert_close_relative(actual[name], expected[name], 1e-5)
    targets = sum(len(ids) - 1 for ids in alone)
    assert packed.targets(range(5)) == batch.target_weights.sum() == targets


def test_without_masking_documents_are_one_text_and_padding_has_no_loss(
    model_folder, packed_documents, documents
):
    packed = PackedSequences(packed_documents, document_masking=False)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    texts = [torch.tensor([[token for ids in sequence for token in ids]]) for sequence in documents[:5]]
    expected = sum(model(text, labels=text).loss.item() * (text.numel() - 1) for text in texts)
    batch = packed.batch(np.arange(5), np.ones(5, np.float32))
    assert LossModel(model, False)(*on_device(batch, torch.device("cpu"))).item() == pytest.approx(
        expected, rel=1e-6
    )
    assert packed.tokens(range(5)) == sum(text.numel() for text in texts) < 5 * 64
    assert packed.targets(range(5)) == batch.target_weights.sum() == packed.tokens(range(5)) - 5


@pytest.mark.parametrize("masking", [False, True])
def test_batches_by_hand(tmp_path, masking):
    sequences = [[[5] * 3, [6], [7] * 60], [[8] * 2, [9] * 58], [[4] * 64]]
    packed = PackedSequences(write_packed(tmp_path, sequences), masking)
    ids, positions, weights, starts = packed.batch(np.array([1, 0, 1]), np.array([1.0, 0.5, 0.0], np.float32))
    assert ids.tolist() == [[8] * 2 + [9] * 58 + [0] * 4, [5] * 3 + [6] + [7] * 60, ids[0].tolist()]
    assert ids.dtype == np.int64 and weights.dtype == np.float32
    assert not weights[2].any()
    if masking:
        assert positions.dtype == np.int64
        assert positions[0].tolist() == [0, 1, *range(58), *range(4)]
        assert positions[1].tolist() == [0, 1, 2, 0, *range(60)]
        assert starts.tolist() == [0, 2, 60, 64, 67, 68, 128, 130, 188, 192] and starts.dtype == np.int32
        assert weights[0].tolist() == [1, 0] + [1] * 57 + [0] * 4
        assert weights[1].tolist() == [0.5, 0.5, 0, 0] + [0.5] * 59
    else:
        assert positions is None and starts is None
        assert weights[0].tolist() == [1] * 59 + [0] * 4
        assert weights[1].tolist() == [0.5] * 63
    assert [packed.tokens(range(n)) for n in range(4)] == [0, 64, 124, 188]
    expected = [0, 61, 119, 182] if masking else [0, 63, 122, 185]
    assert [packed.targets(range(n)) for n in range(4)] == expected
