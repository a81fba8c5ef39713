"""A pretended GPU runs the code that is only for GPUs, and counts the memory that it takes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from forked import Session, kill_after
from one_training import without_cuda
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.stage import arguments
from cpt.train.costs import KNOWN_MODELS, step_bytes

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROBE = BENCHMARKS.with_name("scripts") / "probe.py"

pytestmark = without_cuda


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("(torch.arange(3., device='cuda') * 2).sum().item()", "6.0\n"),
        ("torch.ones(2, device='cuda').cpu() + torch.ones(2)", "tensor([2., 2.])\n"),
        ("torch.ones(3, device='cuda') + torch.ones(3)", "same device"),
        ("torch.zeros(3, device='cuda').add_(torch.ones(3))", "same device"),
        ("torch.empty(10**9, device='cuda')", "Tried to allocate 3814.70 MiB"),
        ("(torch.ones(9, device='cuda')[:2].exp(), torch.cuda.memory_allocated())[1]", "8\n"),
        ("(torch.ones(9, device='cuda')[:2].exp(), torch.cuda.max_memory_allocated())[1]", "44\n"),
    ],
)
def test_the_gpu_itself(on_gpu, code, printed):
    code = f"import torch\ntry:\n    print({code})\nexcept RuntimeError as error:\n    print(error)"
    assert printed in on_gpu(SimpleNamespace(command=["-c", code]), size=10**9)


def test_preflight_tries_it(on_gpu, tmp_path):
    (tmp_path / "greeting").write_text("hello")
    options = arguments(greeting=tmp_path / "greeting", gpus=2, bf16=True)
    lines = map(json.loads, on_gpu(SimpleNamespace(command=[str(PROBE), *options])).splitlines())
    few, (_, good, text) = (line for line in lines if line[0] == "GPU")
    assert few[1:] == [False, "1 GPU(s) are seen and 2 asked for; lower runs.*.gpus, or ask for more"]
    assert good and "80.0 GB, compute capability 9.0, bfloat16 yes; torch " in text
    assert text.endswith("; a product equals the CPU's")


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True, "micro_batch": "auto"},
        {"document_masking": True, "l2_to_start": 0.1, "loss_kernel": "pytorch"},
    ],
)
def test_losses_are_those_of_the_cpu(training, on_gpu, packed_documents, changes):
    expected = training("cpu", packed_documents, **changes)
    with Session(expected) as session:
        session.finish()
    run = training("gpu", packed_documents, **changes)
    on_gpu(run)
    np.testing.assert_allclose(run.metrics.loss, expected.metrics.loss, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run.metrics.gradient_norm, expected.metrics.gradient_norm, rtol=1e-4)
    assert run.metrics.model_flops_utilization.notna().all() and (run.metrics.peak_memory_mb > 0).all()


def test_bf16(training, on_gpu, reference):
    run = training(precision="bf16")
    on_gpu(run)
    assert 1e-5 < np.abs(run.metrics.loss - reference.metrics.loss).max() < 5e-3


def test_bf16_with_documents_apart_without_a_mask(training, on_gpu, packed_documents, tmp_path):
    """Only the kernel is a stand-in (pretended_gpu/varlen_on_cpu.py)."""
    sizes = {"vocab_size": 101, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128}
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(tmp_path / "model")
    settings = {"document_masking": True, "gradient_checkpointing": True}
    expected, run = training("cpu", packed_documents, **settings), training("gpu", packed_documents)
    expected.model = run.model = tmp_path / "model"
    run.changed(precision="bf16", **settings)
    with Session(expected) as session:
        session.finish()
    on_gpu(run)
    difference = np.abs(run.metrics.loss - expected.metrics.loss).max()
    assert 1e-5 < difference < 5e-3
    assert json.loads((run.folder / "run.json").read_text())["settings"]["attention"] == "varlen"
    assert "attention: varlen" in (run.folder / "log").read_text()


def test_a_run_of_the_cpu_resumes_on_the_gpu(training, on_gpu, reference):
    run = training()
    kill_after(run, lambda: bool(run.checkpoints))
    run.remove_outputs()
    on_gpu(run)
    assert "continuing after step" in (run.folder / "log").read_text()
    np.testing.assert_allclose(run.metrics.loss, reference.metrics.loss, rtol=0, atol=1e-5)


def test_memory_runs_out(training, on_gpu, reference):
    whole = training("whole", micro_batch=4)
    on_gpu(whole)
    size = int(whole.metrics.peak_memory_mb.max() * 1e6 * 0.9)
    output = on_gpu(training("given", micro_batch=4), status=1, size=size)
    assert "out of memory on process 0 of 1" in output and "more were needed" in output
    assert "train.micro_batch: 2" in output and "Traceback" not in output
    fitting = training("found", micro_batch="auto")
    on_gpu(fitting, size=size)
    assert "micro-batch found: 2 of at most 4" in (fitting.folder / "log").read_text()
    np.testing.assert_allclose(fitting.metrics.loss, reference.metrics.loss, rtol=0, atol=1e-5)


@pytest.mark.experiments
def test_the_papers_batch_takes_less_than_a_third_of_the_trainers_memory(gpu, tmp_path):
    """At most 30 %, all with gradient checkpointing. And `plan` expects nearly the counted memory."""
    systems = ["ours-checkpointing", "ours-zero3-offload-checkpointing"]
    systems += ["hf-trainer-checkpointing", "ours-ddp"]
    table = tmp_path / "memory.csv"
    shape = {"shape": "125m", "micro_batch": 80, "device": "cuda", "steps": 1, "repeats": 1}
    command = [sys.executable, str(BENCHMARKS / "training.py")]
    command += arguments(table=table, systems=systems, **shape)
    done = subprocess.run(command, env=gpu(values=False, size=10**15), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    rows = pd.read_csv(table, index_col="system")
    peaks = rows.peak_memory_mb
    assert peaks[systems[:2]].max() <= 0.30 * peaks["hf-trainer-checkpointing"]
    mobile = KNOWN_MODELS["facebook/MobileLLM-125M"]
    for system, checkpointing in (("ours-checkpointing", True), ("ours-ddp", False)):
        expected = step_bytes(mobile, 80, 2_000, checkpointing, "bf16", gpu=True)
        assert expected["activations"] / 1e6 == pytest.approx(rows.activations_mb[system], rel=0.1)
