"""benchmarks/training.py: a small run, and the table that it computes from measurements."""

import importlib
import logging
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from cpt import cpu

ROOT = Path(__file__).resolve().parents[2]
# Parameters of the small shape, counted by hand: embedding, layers (queries and output, keys and values,
# feed-forward, norms), last norm.
PARAMETERS = 32_000 * 256 + 8 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 688 + 2 * 256) + 256


@pytest.fixture
def training(monkeypatch):
    """benchmarks/training.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "scripts"))
    return importlib.import_module("training")


@pytest.mark.experiments
def test_ours_and_the_trainer_are_measured_in_the_same_way(tmp_path, training, caplog):
    caplog.set_level(logging.INFO)
    table, figures = tmp_path / "training.csv", [tmp_path / "training.png", tmp_path / "training.pdf"]
    systems = ["ours-ddp", "hf-trainer-bf16"]
    training.training(table, figures, sequence_length=64, steps=1, repeats=1, systems=systems)
    rows = pd.read_csv(table)
    assert list(rows.system) == systems
    parts = [f"{part}_mb" for part in (*training.PARTS, "activations", "logits")]
    for row in rows.itertuples():
        assert row.weights_mb == row.gradients_mb == pytest.approx(4 * PARAMETERS / 1e6, abs=0.05)
        assert row.optimizer_mb == pytest.approx(8 * PARAMETERS / 1e6, abs=0.05)
        together = row.baseline_mb + sum(getattr(row, part) for part in parts)
        assert row.peak_memory_mb == pytest.approx(together, abs=0.5)
        assert 0 < row.tokens_per_second <= 1.1 * row.tokens_per_cpu_second
        assert 0 < row.mfu < 1
        # At 64 positions, both systems hold all logits at once: 8.2 MB in float32.
        # bfloat16 adds the head's weights and its gradient in both precisions: 98 MB.
        assert 8 < row.logits_mb < (60 if row.precision == "float32" else 158)
    assert [path.read_bytes()[:4] for path in figures] == [b"\x89PNG", b"%PDF"]
    assert list(rows.precision) == ["float32", "bf16"]
    assert set(rows.measured_on) == {cpu.processor()} and f"measured on {cpu.processor()}" in caplog.text
    assert "| hf-trainer-bf16 |" in caplog.text
    assert "times the tokens_per_cpu_second of hf-trainer-bf16" in caplog.text


def test_a_row_is_the_median_of_the_repeats_per_core(training):
    job = {"global_batch": 4, "sequence_length": 100, "processes": 2, "device": "cpu"}
    runs = [
        {
            "step_seconds": seconds,
            "step_cpu_seconds": seconds / 2,
            "peak_mb": 1000.0 + seconds,
            "baseline_mb": 300.0,
            "parts_mb": {"weights": 50.0, "gradients": 50.0, "optimizer": 100.0},
            "logits_mb": 100.0,
            "flops_per_token": 1e6,
            "precision": "float32",
            "measured_on": "a processor",
        }
        for seconds in (4.0, 2.0, 100.0)
    ]
    row = training.row_of("ours-ddp", runs, job, peak_flops=1e9)
    assert row["tokens_per_second"] == 100.0
    assert row["tokens_per_cpu_second"] == 100.0  # 400 tokens in 2 CPU seconds of each of two processes
    assert row["mfu"] == 0.1
    assert (row["activations_mb"], row["logits_mb"]) == (404.0, 100.0)
    gpu_row = training.row_of("ours-ddp", runs, job | {"device": "cuda"}, peak_flops=None)
    assert gpu_row["tokens_per_cpu_second"] == ""
    assert gpu_row["mfu"] == ""


def test_the_first_system_has_the_papers_settings_and_each_changes_the_one_before_it(training):
    cpu_settings = {"precision": "float32"}
    settings = [
        training.settings_of(name, cpu_settings) for name in training.SYSTEMS if name.startswith("ours")
    ]
    assert (settings[0].engine, settings[0].zero_stage, settings[0].offload) == (
        "deepspeed",
        3,
        ["optimizer", "parameters"],
    )
    assert settings[0].gradient_checkpointing
    assert all(before != after for before, after in pairwise(settings))


def test_a_system_without_its_package_is_skipped(training, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = {
        name: training.missing_package(name, training.settings_of(name, {})) for name in training.SYSTEMS
    }
    assert missing == {
        "ours-zero3-offload-checkpointing": "deepspeed",
        "ours-checkpointing": None,
        "ours-ddp": None,
        "ours-selective": None,
        "ours-bf16": None,
        "ours-bf16-moments-bf16": None,
        "ours-bf16-moments-8bit": None,
        "ours-compiled": "triton",
        "ours-liger": "triton",
        "hf-trainer-checkpointing": "accelerate",
        "hf-trainer": "accelerate",
        "hf-trainer-onednn": "accelerate",
        "hf-trainer-bf16": "accelerate",
    }
