"""Every engine gives the same losses, continues from every other's checkpoint, saves a model that loads."""

import json
import os
import sys
import threading
from pathlib import Path

import cpuinfo
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from one_training import without_cuda
from packed_mixture import LENGTH
from safetensors.torch import load_file
from train_settings import ENGINES, SETTINGS, TRAIN, planned, several
from transformers import AutoModelForCausalLM

from cpt.digest import reached_definitions
from cpt.errors import UserError
from cpt.train import deepspeed_engine
from cpt.train.plain_engine import PlainEngine

# One run, passed from engine to engine: (processes, engine, its steps).
CHAIN = [
    (2, "ddp", 1),
    (2, "zero 2", 1),
    (2, "fsdp", 1),
    (2, "zero 3, all offloaded", 1),
    (1, "ddp", 1),
    (1, "zero 0", 1),
    (1, "fsdp, all offloaded", 1),
    (1, "zero 1", None),
]
RESUMED = ("fsdp", "zero 2")  # on two processes; zero 3 is killed in tests/workflow, ddp in many places
# All engines run on two processes; these also run on one: ddp, the reference, and some that CHAIN lacks.
ALONE = ("ddp", "fsdp", "zero 2", "zero 3, optimizer offloaded")
# On a pretended GPU: each way to offload.
ON_GPU = ("ddp", "fsdp, all offloaded", "zero 2, optimizer offloaded", "zero 3", "zero 3, all offloaded")
STEPS = 9
SEQUENCES = 53  # 8 global batches of 6, and one of 5, which two processes can't share evenly


def case(name: str, processes: int) -> dict:
    """Micro-batch and checkpointing of an engine. Of 6 sequences per step, three go to each of two processes:
    in three micro-batches, in one and a smaller one, or in one.

    The numbers of processes, the kinds of checkpointing and the micro-batches meet in all pairs.
    """
    number = list(ENGINES).index(name)
    return {
        "micro_batch": 1 + (number + processes) % 3,
        "gradient_checkpointing": ("selective", False, True)[(number // 2 + processes) % 3],
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder, gpu) -> Path:
    """A folder of finished trainings: `ENGINE/PROCESSES`, some `ENGINE/resumed`, `chain`, and `ENGINE/GPU`
    (one process on a pretended GPU)."""
    root = tmp_path_factory.mktemp("engines")

    def training(work: Path, stop_after: int | None = None, **changes) -> dict:
        return {
            "plan": planned(SEQUENCES * LENGTH, packed_folder, **({"global_batch": 6} | changes)),
            "model_folder": str(model_folder),
            "sequences_folders": [str(packed_folder)],
            "work": str(work),
            "stop_after": stop_after,
        }

    for processes in (2, 1):
        listed = [
            training(root / name / str(processes), **ENGINES[name], **case(name, processes))
            for name in (ENGINES if processes == 2 else ALONE)
        ]
        listed += [
            training(root / "chain", last, **ENGINES[name])
            for count, name, last in CHAIN
            if count == processes
        ]
        if processes == 2:
            for name in RESUMED:
                settings = ENGINES[name] | case(name, processes)
                listed += [training(root / name / "resumed", steps, **settings) for steps in (4, None)]
        several(listed, processes, root)
    if gpu is not None:
        listed = [training(root / name / "GPU", **ENGINES[name], **case(name, 1)) for name in ON_GPU]
        several(listed, 1, root, gpu())
    return root


def assert_same_curve(work: Path, reference: Path) -> None:
    metrics, expected = (pd.read_csv(folder / "metrics.csv") for folder in (work, reference))
    assert list(metrics.step) == list(expected.step) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=0, atol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, expected.gradient_norm, rtol=1e-4)


def test_settings_meet_in_all_pairs():
    cases = [(p, *case(name, p).values()) for p, names in ((1, ALONE), (2, ENGINES)) for name in names]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert len({(c[one], c[other]) for c in cases}) == len({c[one] for c in cases}) * len(
            {c[other] for c in cases}
        )


@pytest.mark.parametrize(
    ("name", "processes"),
    [
        *((name, 2) for name in ENGINES),
        *((name, 1) for name in ALONE),
        *(pytest.param(name, "GPU", marks=without_cuda) for name in ON_GPU),
    ],
)
def test_same_curve_and_a_model_that_loads(trained, name, processes):
    reference, work = trained / "ddp" / "1", trained / name / str(processes)
    assert_same_curve(work, reference)
    summary = json.loads((work / "run.json").read_text())
    assert (summary["engine"], summary["processes"]) == (
        ENGINES[name]["engine"],
        1 if processes == "GPU" else processes,
    )
    tensors = load_file(work / "model" / "model.safetensors")
    assert all(tensor.numel() for tensor in tensors.values())
    model, expected = (AutoModelForCausalLM.from_pretrained(f / "model") for f in (work, reference))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    for (key, a), b in zip(model.named_parameters(), expected.parameters(), strict=True):
        # AdamW moves a weight by up to the learning rate, 0.003, however small its gradient: rounding shows.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4, msg=key)


def test_engines_continue_from_each_others_checkpoints(trained):
    assert_same_curve(trained / "chain", trained / "ddp" / "1")
    assert json.loads((trained / "chain" / "run.json").read_text())["resumed_after_step"] == 7


@pytest.mark.parametrize("name", RESUMED)
def test_resume_is_bit_for_bit(trained, name):
    undisturbed, resumed = trained / name / "2", trained / name / "resumed"
    assert json.loads((resumed / "run.json").read_text())["resumed_after_step"] == 4
    one, other = ((work / "model" / "model.safetensors").read_bytes() for work in (undisturbed, resumed))
    assert one == other
    assert list(pd.read_csv(resumed / "metrics.csv").loss) == list(
        pd.read_csv(undisturbed / "metrics.csv").loss
    )


@pytest.mark.parametrize(
    ("name", "weights", "gradients", "optimizer"),  # in copies of the model in float32
    [
        ("ddp", 1, 1, 2),
        ("fsdp", 0.5, 0.5, 1),
        ("fsdp, all offloaded", 0.5, 0.5, 1),
        ("zero 0", 1, 1, 2),
        ("zero 1", 1, 0.5, 1.5),  # the optimizer holds moments and a copy of its weights
        ("zero 2", 1, 0.5, 1.5),
        ("zero 3", 0.5, 0.5 + 1, 1.5),  # gradients lie in a bucket as large as this model, then in their part
        ("zero 3, all offloaded", 0.5, 0.5 + 1 + 0.5, 1.5),  # and in the optimizer's copy
    ],
)
def test_what_each_of_two_processes_holds(trained, name, weights, gradients, optimizer):
    model = load_file(trained / "ddp" / "1" / "model" / "model.safetensors")
    whole = sum(tensor.nbytes for tensor in model.values())
    for rank in (0, 1):
        held = json.loads((trained / name / "2" / f"held-{rank}.json").read_text())
        copies = {part: sizes["cpu"] / whole for part, sizes in held.items()}
        expected = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
        assert copies == pytest.approx(expected, abs=0.06)  # uneven parts are padded


def test_every_engine_counts_as_code_that_training_depends_on():
    files = {file for file, _ in reached_definitions(TRAIN)}
    assert {f"cpt/train/{name}_engine.py" for name in ("plain", "fsdp", "deepspeed")} <= files


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """A machine with a compiler and ninja; each build appends whether its lock exists."""
    locked = []
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "true --")  # acts as a compiler with an option; nothing is compiled
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored, as ninja's folder is added to it
    deepspeed_engine.import_deepspeed(torch.device("cpu"))
    from deepspeed.ops.op_builder import CPUAdamBuilder

    def load(self, verbose: bool) -> None:
        locked.append((tmp_path / "cpu_adam" / "lock").exists())

    monkeypatch.setattr(CPUAdamBuilder, "load", load)
    return locked


def test_lock_of_a_killed_build_is_removed(builds, tmp_path, caplog):
    (tmp_path / "cpu_adam").mkdir()
    (tmp_path / "cpu_adam" / "lock").touch()
    deepspeed_engine.compile_cpu_adam()
    assert builds == [False] and "removed the lock of a build that was killed" in caplog.text


def test_builds_wait_in_line(builds, tmp_path):
    with FileLock(tmp_path / "cpt.lock"):
        waiting = threading.Thread(target=deepspeed_engine.compile_cpu_adam)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not builds
    waiting.join(60)
    assert builds == [False]


def test_the_processor_is_looked_up_once(builds, monkeypatch):
    """DeepSpeed does so twice to compile, and once for its optimizer."""
    calls = []
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: calls.append(1))
    deepspeed_engine.compile_cpu_adam()
    for _ in range(3):
        cpuinfo.get_cpu_info()
    assert calls == [1] and builds


def test_missing_compiler_and_ninja_are_reported(builds, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        UserError, match=r"true -- isn't on the PATH; C.*; ninja isn't on the PATH.*engine: fsdp"
    ):
        deepspeed_engine.compile_cpu_adam()
    assert not builds


def test_a_compiler_that_cannot_build_is_reported(builds, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(
        UserError, match=r"can't do so here: false: no message; C\+\+20, OpenMP.*engine: fsdp"
    ):
        deepspeed_engine.compile_cpu_adam()
    assert not builds


def test_failed_build_is_reported(builds, monkeypatch):
    def fail(self, verbose: bool) -> None:
        raise RuntimeError("no such header")

    monkeypatch.setattr("deepspeed.ops.op_builder.CPUAdamBuilder.load", fail)
    with pytest.raises(UserError, match=r"didn't compile: no such header.*engine: fsdp"):
        deepspeed_engine.compile_cpu_adam()


def test_missing_deepspeed_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"engine: deepspeed can't be imported.*engine: fsdp"):
        deepspeed_engine.import_deepspeed(torch.device("cpu"))


def test_ddp_exchanges_gradients_once_a_step(model_folder, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = AutoModelForCausalLM.from_pretrained(model_folder).train()
        engine = PlainEngine(model, SETTINGS, torch.device("cpu"), world_size=2)
        exchanged = []

        def count(state: None, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
            exchanged.append(bucket.index())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        engine.loss_model.register_comm_hook(None, count)
        for last in (False, False, False, True):
            loss = engine.loss(torch.arange(64)[None], None, torch.ones(1, 63), last=last)
            engine.backward(loss)
            assert len(exchanged) == len(set(exchanged)) and bool(exchanged) == last
    finally:
        torch.distributed.destroy_process_group()
