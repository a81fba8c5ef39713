"""Compiled layers and loss: one compilation, the same losses and gradients as without."""

import copy
import logging
import os

import pytest
import torch
import torch.distributed as dist
from random_llama import SIZES, loss_and_gradients, random_llama
from torch._dynamo.utils import counters
from train_settings import SETTINGS
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cpt.errors import UserError
from cpt.train import losses as losses_module
from cpt.train.automatic import resolve
from cpt.train.compiled_layers import (
    JoinedAttention,
    JoinedLayer,
    can_compile,
    join_products,
    keep_residual_in_bfloat16,
)
from cpt.train.fsdp_engine import FsdpEngine
from cpt.train.plain_engine import PlainEngine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    """An empty folder for compiled code; tests share it, as the compiler's headers take seconds once."""
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bf16", 5e-3)])
def test_compiled_layers_are_compiled_once_and_give_the_same_losses(
    precision, tolerance, model_folder, monkeypatch, cache
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", cache)
    monkeypatch.setattr(losses_module, "LOGIT_ROWS", {"cpu": 50})  # 126 targets in three pieces, one smaller
    monkeypatch.setattr(losses_module, "SOFTMAX_ROWS", 50)  # the same in bfloat16
    torch.compiler.reset()
    counters.clear()
    ids = torch.randint(0, 101, (2, 64), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(40), torch.arange(24)])[None]
    batch = ids, positions, torch.rand(2, 63, generator=torch.Generator().manual_seed(1)).round()
    settings = SETTINGS | {"precision": precision}
    losses, states = {}, {}
    for compiled in (False, True):
        model = AutoModelForCausalLM.from_pretrained(model_folder).train()
        engine = PlainEngine(model, settings | {"compile": compiled}, CPU, 1)
        engine.trial(torch.zeros(3, 64, dtype=torch.int64), batch[1], torch.ones(3, 63))
        losses[compiled] = []
        for _ in range(4):
            loss = engine.loss(*batch) / batch[2].sum()
            engine.backward(loss)
            losses[compiled].append((loss.item(), engine.step(1e-3)))
        states[compiled] = engine.state()[0]
    joined = [type(module) for module in model.modules()]
    assert joined.count(JoinedAttention) == joined.count(JoinedLayer) == 2
    compiled_losses, plain_losses = torch.tensor(losses[True]), torch.tensor(losses[False])
    torch.testing.assert_close(compiled_losses, plain_losses, rtol=tolerance, atol=0)
    assert states[True].keys() == states[False].keys()
    # One graph for two layers, four steps and a trial of another size. The loss has two, for whole pieces and
    # for others; in bfloat16 these are parts of one tensor and share one graph.
    assert counters["stats"]["unique_graphs"] == (3 if precision == "float32" else 2)


def test_split_layers_are_compiled_too(model_folder, monkeypatch, tmp_path, cache, recwarn):
    """Engine fsdp, in a process group of one, with gradient checkpointing."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", cache)
    torch.compiler.reset()
    counters.clear()
    ids = torch.randint(0, 101, (2, 64), generator=torch.Generator().manual_seed(0))
    batch = ids, None, torch.ones(2, 63)
    settings = SETTINGS | {"gradient_checkpointing": True}
    losses = {}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        for compiled in (False, True):
            model = AutoModelForCausalLM.from_pretrained(model_folder).train()
            engine = FsdpEngine(model, settings | {"compile": compiled}, CPU, 1)
            losses[compiled] = []
            for _ in range(3):
                loss = engine.loss(*batch) / batch[2].sum()
                engine.backward(loss)
                losses[compiled].append((loss.item(), engine.step(1e-3)))
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(torch.tensor(losses[True]), torch.tensor(losses[False]), rtol=1e-5, atol=0)
    assert counters["stats"]["unique_graphs"] == 2  # of a layer, and of the loss
    assert not [warning for warning in recwarn if "FSDP" in str(warning.message)]


@pytest.mark.parametrize("documents", [[40], [13, 27]])
def test_joined_products_give_the_same_as_the_layers(documents):
    """Loss and gradients, not compiled."""
    model = random_llama()
    joined = copy.deepcopy(model)
    join_products(joined)
    expected, gradients = loss_and_gradients(model, documents, checkpointing=False)
    loss, joined_gradients = loss_and_gradients(joined, documents, checkpointing=False)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for (name, _), gradient, other in zip(model.named_parameters(), gradients, joined_gradients, strict=True):
        assert (other - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize(
    "changes", [{"hidden_act": "gelu"}, {"attention_bias": True, "mlp_bias": True}, {"mlp_bias": True}]
)
def test_layers_with_biases_or_another_gate_stay_as_they_are(changes):
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=6, **changes))
    kinds = [type(module) for module in model.modules()]
    join_products(model)
    assert [type(module) for module in model.modules()] == kinds
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_pass_on_bfloat16_and_angles_stay_float32():
    """Gradients are float32, and nearly those of float32."""
    model = random_llama()
    _, expected = loss_and_gradients(model, [13, 27], checkpointing=False)
    expected = [gradient.clone() for gradient in expected]
    join_products(model)
    keep_residual_in_bfloat16(model)
    passed, angles = [], []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda module, inputs, output: passed.append(output.dtype))
    model.model.rotary_emb.register_forward_hook(lambda *arguments: angles.append(arguments[-1][0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        _, gradients = loss_and_gradients(model, [13, 27], checkpointing=False)
    assert passed == [torch.bfloat16] * 3 and angles == [torch.float32]
    for gradient, other in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - other).norm() <= 0.03 * other.norm()


def test_automatic_compilation_is_for_gpus(monkeypatch):
    assert not can_compile(CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not can_compile(torch.device("cuda"))
    monkeypatch.setenv("CC", "gcc -m64")
    assert can_compile(torch.device("cuda"))


@pytest.mark.parametrize(
    ("compiler", "asked", "expected"),
    [("gcc -m64", "auto", True), ("gcc", True, True), ("gcc", False, False), ("no-such", "auto", False)],
)
def test_what_auto_became_is_recorded_and_logged(monkeypatch, tmp_path, caplog, compiler, asked, expected):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    settings = {"compile": asked, "loss_kernel": "auto"}
    resolve(settings, torch.device("cuda"), tmp_path)
    assert settings == {"compile": expected, "loss_kernel": "pytorch"}
    assert f"compile: {expected} (asked for: {asked})" in caplog.text
    assert "loss_kernel: pytorch (asked for: auto)" in caplog.text
    assert ("compile: auto compiles nothing, so steps take longer: no-such" in caplog.text) == (
        compiler == "no-such"
    )
    assert len(os.environ["CC"].split()) == 1  # as Triton starts it


def test_all_processes_compile_or_none(monkeypatch, tmp_path):
    """If another node lacks the compiler, none compiles."""

    def gather(answers: list[bool], own: bool) -> None:
        answers[:] = [own, False]

    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    settings = {"compile": "auto", "loss_kernel": "auto"}
    resolve(settings, torch.device("cuda"), tmp_path)
    assert settings == {"compile": False, "loss_kernel": "pytorch"}


def test_compiling_that_is_not_possible_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such")
    message = (
        r"train\.compile: true isn't possible here: no-such isn't on the PATH; .*set train\.compile: false"
    )
    with pytest.raises(UserError, match=message):
        resolve({"compile": True, "loss_kernel": "auto"}, torch.device("cuda"), tmp_path)
