"""Compiled layers: one compilation, the losses and gradients of the others."""

import torch
from conftest import SETTINGS
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM

from cpt.train.plain_engine import PlainEngine, can_compile

CPU = torch.device("cpu")


def test_compiled_layers_give_the_same_losses_from_one_compilation(model_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    counters.clear()
    ids = torch.randint(0, 101, (2, 64), generator=torch.Generator().manual_seed(0))
    batch = ids, torch.arange(64)[None], torch.ones(2, 63)
    losses, states = {}, {}
    for compile in (False, True):
        model = AutoModelForCausalLM.from_pretrained(model_folder).train()
        engine = PlainEngine(model, SETTINGS | {"compile": compile, "lean_layers": False}, CPU, 1)
        engine.trial(torch.zeros(3, 64, dtype=torch.int64), batch[1], torch.ones(3, 63))
        losses[compile] = []
        for _ in range(4):
            loss = engine.loss(*batch) / batch[2].sum()
            engine.backward(loss)
            losses[compile].append((loss.item(), engine.step(1e-3)))
        states[compile] = engine.state()[0]
    torch.testing.assert_close(torch.tensor(losses[True]), torch.tensor(losses[False]), rtol=1e-5, atol=0)
    assert states[True].keys() == states[False].keys()
    assert counters["stats"]["unique_graphs"] == 1  # for two layers, four steps and a trial of another size


def test_compiling_by_itself_is_for_gpus(monkeypatch):
    assert not can_compile(CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not can_compile(torch.device("cuda"))
    monkeypatch.setenv("CC", "sh")
    assert can_compile(torch.device("cuda"))
