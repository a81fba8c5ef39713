"""A run's precision: measured on a CPU, kept for a resumed run, with every engine."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from forked import Session, kill_after
from packed_mixture import LENGTH
from torch import nn
from train_settings import ENGINES, SPREAD, planned, several

from cpt import cpu
from cpt.digest import settings_digest
from cpt.files import read_json, write_json
from cpt.train import precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MODEL = nn.Linear(2, 2)
# Stage 0 last: its autocast stays, and later engines would exchange bfloat16.
ON_CPU = SPREAD | {"zero 0": ENGINES["zero 0"]}
STEPS = 4


def keep_bfloat16(work, plan) -> None:
    """Write what a run on this processor writes when it has measured that bfloat16 is faster."""
    work.mkdir(parents=True, exist_ok=True)
    key = {"learning": settings_digest(plan["learning"]), "processor": cpu.processor()}
    write_json(work / "precision.json", {"for": key, "gain": 2.0, "precision": "bf16"})


@pytest.fixture
def gains(monkeypatch):
    """The gains that the next measurements return, in this order."""
    gains_to_come = []
    monkeypatch.setattr(precision, "bfloat16_gain", lambda model: gains_to_come.pop(0))
    return gains_to_come


def chosen(asked, work, device=CPU, rank=0, **learning):
    return precision.chosen_precision(
        {"learning": {"precision": asked} | learning}, MODEL, work, device, rank
    )


@pytest.mark.parametrize("asked", ["bf16", "auto"])
def test_a_cpu_computes_in_bfloat16_if_it_is_faster(asked, gains, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    gains += [1.19]
    assert chosen(asked, tmp_path / "slow") == "float32"
    record = caplog.records[-1]
    assert record.levelname == ("WARNING" if asked == "bf16" else "INFO")  # not the precision asked for
    assert (
        f"precision: float32 (asked for: {asked}); bfloat16 makes this CPU's products 1.19 times"
        in record.message
    )
    gains += [1.21]
    assert chosen(asked, tmp_path / "fast") == "bf16"
    assert caplog.records[-1].levelname == "INFO" and f"precision: bf16 (asked for: {asked})" in caplog.text


def test_float32_is_not_measured(gains, tmp_path):
    assert chosen("float32", tmp_path) == chosen("float32", tmp_path, GPU) == "float32"
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_measures_again_only_on_another_processor_or_with_other_settings(
    gains, tmp_path, monkeypatch
):
    gains += [2.0]
    assert [chosen("auto", tmp_path) for _ in range(3)] == ["bf16"] * 3
    gains += [1.0]
    monkeypatch.setattr(cpu, "CPUINFO", SimpleNamespace(read_text=lambda: "model name : another\n"))
    assert [chosen("auto", tmp_path) for _ in range(3)] == ["float32"] * 3
    gains += [2.0]
    assert [chosen("auto", tmp_path, seed=1) for _ in range(3)] == ["bf16"] * 3
    assert not gains


def test_auto_is_bfloat16_on_a_gpu_that_has_it(monkeypatch, tmp_path):
    for supported, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, own=supported: own)
        assert chosen("auto", tmp_path, GPU, rank=1) == expected
        assert chosen("bf16", tmp_path, GPU) == "bf16"


def test_bfloat16_run_resumes_bit_for_bit_and_reports_it(training, reference):
    runs = [training(name, precision="bf16") for name in ("undisturbed", "killed")]
    for run in runs:
        keep_bfloat16(run.folder / "work", read_json(run.folder / "plan.json"))
    kill_after(runs[1], lambda: bool(runs[1].checkpoints))
    for run in runs:
        with Session(run) as session:
            session.finish()
        assert json.loads((run.folder / "run.json").read_text())["settings"]["precision"] == "bf16"
    assert runs[0].weights == runs[1].weights != reference.weights
    np.testing.assert_allclose(runs[0].metrics.loss, reference.metrics.loss, rtol=0, atol=0.02)


def test_a_run_measures_and_reports_its_precision(training):
    run = training(precision="bf16", tokens=4 * LENGTH)
    with Session(run) as session:
        session.finish()
    taken = json.loads((run.folder / "run.json").read_text())["settings"]["precision"]
    assert f"precision: {taken} (asked for: bf16)" in (run.folder / "log").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder):
    """A few steps of each kind of engine in bfloat16 on two processes, and of ddp in float32."""
    root = tmp_path_factory.mktemp("precisions")
    listed = []
    for name, settings in ({"float32": {"precision": "float32"}} | ON_CPU).items():
        changes = {"global_batch": 4, "precision": "bf16"} | settings
        plan = planned(4 * STEPS * LENGTH, packed_folder, **changes)
        if plan["learning"]["precision"] == "bf16":
            keep_bfloat16(root / name, plan)
        folders = {"model_folder": str(model_folder), "sequences_folders": [str(packed_folder)]}
        listed.append({"plan": plan, "work": str(root / name), "stop_after": None} | folders)
    several(listed, 2, root)
    return root


@pytest.mark.parametrize("name", ON_CPU)
def test_engines_train_in_bfloat16_on_two_cpu_processes(trained, name):
    summary = json.loads((trained / name / "run.json").read_text())
    assert summary["settings"]["precision"] == "bf16" and summary["processes"] == 2
    metrics, expected = (pd.read_csv(trained / work / "metrics.csv") for work in (name, "float32"))
    assert len(metrics) == STEPS and list(metrics.loss) != list(expected.loss)
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=0, atol=0.01)
    np.testing.assert_allclose(metrics.gradient_norm, expected.gradient_norm, rtol=0.03)
