"""Llama's layers in bfloat16 on a CPU: as near to float32 as autocast, keeping no more than `selective`."""

import copy

import pytest
import torch
from random_llama import SIZES, loss_and_gradients, random_llama
from torch.nn.functional import scaled_dot_product_attention
from train_settings import SETTINGS
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.config_runs import Train
from cpt.train import blocks
from cpt.train.cpu_layers import CpuLayer, use_cpu_layers
from cpt.train.losses import LossModel, TiedEmbedding, add_up_tied_gradients
from cpt.train.plain_engine import PlainEngine

BFLOAT16 = torch.autocast("cpu", torch.bfloat16)


def lean(model):
    changed = copy.deepcopy(model)
    assert use_cpu_layers(changed)
    return changed


@pytest.mark.parametrize("documents", [[40], [13, 27]])
def test_loss_and_gradients_are_as_near_to_float32_as_those_of_autocast(documents, monkeypatch):
    monkeypatch.setattr(blocks, "QUERIES", 16)  # two whole blocks and a smaller one
    model = random_llama()
    expected, gradients = loss_and_gradients(model, documents, checkpointing=False)
    gradients = [gradient.clone() for gradient in gradients]
    with BFLOAT16:
        plain, plain_gradients = loss_and_gradients(copy.deepcopy(model), documents, checkpointing=False)
        lean_loss, lean_gradients = loss_and_gradients(lean(model), documents, checkpointing=False)
    assert abs(lean_loss - expected) <= max(2 * abs(plain - expected), 1e-3 * expected)
    for name, exact, theirs, ours in zip(
        dict(model.named_parameters()), gradients, plain_gradients, lean_gradients, strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() <= 1.5 * (theirs - exact).norm() + 1e-3 * exact.norm(), name


@pytest.mark.parametrize("length", [1, 128, 300])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_blocks_is_that_of_pytorch(length, masked):
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(shape, generator=generator).bfloat16()
        for shape in [(2, 6, length, 16), (2, 2, length, 16), (2, 2, length, 16), (2, 6, length, 16)]
    ]
    queries, keys, values, gradient = tensors
    mask = torch.ones(2, 1, length, length, dtype=torch.bool).tril_()
    if masked:  # documents that begin at 40, and in the second row at 200 too
        mask[:, :, 40:, :40] = False
        mask[1, :, 200:, :200] = False
    exact = [tensor.double().requires_grad_() for tensor in (queries, keys, values)]
    expected = scaled_dot_product_attention(*exact, attn_mask=mask, scale=1.0, enable_gqa=True)
    wanted = [expected, *torch.autograd.grad(expected, exact, gradient.double())]
    states = (queries.reshape(4, 3, length, 16), keys.flatten(0, 1), values.flatten(0, 1))
    used_mask = mask if masked else None
    results = [blocks.attend(*states, used_mask)]
    results += blocks.attend_backward(*states, used_mask, gradient.reshape(4, 3, length, 16))
    for ours, theirs in zip(results, wanted, strict=True):
        theirs = theirs.detach().reshape(ours.shape)
        assert (ours - theirs).norm() <= 0.015 * theirs.norm() + 1e-6


def test_checkpointing_the_whole_layer_changes_nothing():
    results = []
    for kind in (False, True):
        with BFLOAT16:
            results.append(loss_and_gradients(lean(random_llama()), [13, 27], kind))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(*pair) for pair in zip(results[0][1], results[1][1], strict=True))


def test_the_layers_keep_no_more_than_selective_checkpointing():
    kept = {}
    for kind in (False, "selective"):
        model = random_llama() if kind else lean(random_llama())
        ids = torch.ones(2, 40, dtype=torch.int64)
        with torch.profiler.profile(profile_memory=True) as profile, BFLOAT16:
            loss = LossModel(model, kind)(ids, None, torch.ones(2, 39))
        kept[kind] = sum(event.self_cpu_memory_usage for event in profile.key_averages())
        del loss
    assert kept[False] <= kept["selective"]


def test_the_engine_uses_the_layers_only_for_bfloat16():
    def layers(precision: str) -> set[type]:
        settings = Train.model_validate(SETTINGS | {"engine": "ddp", "offload": []}).model_dump()
        changes = {"precision": precision, "gradient_checkpointing": "selective", "seed": 0}
        engine = PlainEngine(random_llama(), settings | changes, torch.device("cpu"), 1)
        assert engine.model.is_gradient_checkpointing == (precision == "float32")
        return {type(layer) for layer in engine.model.model.layers}

    assert layers("bf16") == {CpuLayer}
    assert CpuLayer not in layers("float32")


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"attention_dropout": 0.1},
        {"attn_implementation": "eager"},
    ],
)
def test_other_layers_stay_as_they_are(changes):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=6, **changes))
    assert not use_cpu_layers(model)
    assert not any(isinstance(module, CpuLayer) for module in model.modules())


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_add_their_gradient_to_the_heads(tied):
    """Over two micro-batches, gradients are those that PyTorch adds up from two matrices."""
    config = LlamaConfig(**SIZES, num_attention_heads=6, tie_word_embeddings=tied)
    expected = LossModel(LlamaForCausalLM(config), False)
    loss_model = LossModel(copy.deepcopy(expected.model), False)
    add_up_tied_gradients(loss_model)
    assert (type(loss_model.model.get_input_embeddings()) is TiedEmbedding) == tied
    for model in (expected, loss_model):
        for seed in (1, 2):
            ids = torch.randint(0, config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(seed))
            (model(ids, None, torch.ones(2, 19)) / 38).backward()
    for (name, theirs), (_, ours) in zip(
        expected.model.named_parameters(), loss_model.model.named_parameters(), strict=True
    ):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7), name
    with torch.no_grad():
        assert torch.equal(loss_model(ids, None, torch.ones(2, 19)), expected(ids, None, torch.ones(2, 19)))
