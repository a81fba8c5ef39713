"""benchmarks/training.py: a small run of it, and what it makes of measurements."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "training.py"
# Of the small shape, by hand: embedding, layers (queries and output, keys and values, feed-forward, norms),
# last norm.
PARAMETERS = 32_000 * 256 + 8 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 688 + 2 * 256) + 256


@pytest.fixture
def training(monkeypatch):
    """benchmarks/training.py as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("training")


def test_ours_and_the_trainer_are_measured_alike(tmp_path, training):
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--sequence-length", "64", "--steps", "1"]
    command += ["--repeats", "1", "--systems", "ours-ddp", "hf-trainer"]
    table, figures = tmp_path / "training.csv", [tmp_path / "training.png", tmp_path / "training.pdf"]
    done = subprocess.run(
        [*command, "--output", str(table), "--figure", *map(str, figures)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with open(table, newline="") as file:
        rows = {
            row.pop("system"): {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        }
    assert list(rows) == ["ours-ddp", "hf-trainer"]
    for row in rows.values():
        assert row["weights_mb"] == row["gradients_mb"] == pytest.approx(4 * PARAMETERS / 1e6, abs=0.05)
        assert row["optimizer_mb"] == pytest.approx(8 * PARAMETERS / 1e6, abs=0.05)
        parts = [row[f"{part}_mb"] for part in (*training.PARTS, "activations", "logits")]
        assert row["peak_memory_mb"] == pytest.approx(row["baseline_mb"] + sum(parts), abs=0.5)
        assert 0 < row["tokens_per_second"] <= 1.1 * row["tokens_per_cpu_second"]
        assert 0 < row["mfu"] < 1
    assert [path.read_bytes()[:4] for path in figures] == [b"\x89PNG", b"%PDF"]
    # At 64 positions, all their logits exist at once here and there; in float32, 8.2 MB.
    for row in rows.values():
        assert 8 < row["logits_mb"] < 60
    assert "| hf-trainer |" in done.stderr
    assert "times the tokens_per_cpu_second of hf-trainer" in done.stderr


def test_a_row_is_the_median_of_the_repeats_per_core(training):
    job = {"global_batch": 4, "sequence_length": 100, "processes": 2, "device": "cpu"}
    runs = [
        {
            "step_seconds": seconds,
            "step_cpu_seconds": seconds / 2,
            "peak_mb": 1000.0 + seconds,
            "baseline_mb": 300.0,
            "parts_mb": {"weights": 50.0, "gradients": 50.0, "optimizer": 100.0},
            "flops_per_token": 1e6,
        }
        for seconds in (4.0, 2.0, 100.0)
    ]
    row = training.row_of("ours-ddp", runs, job, peak=1e9, logits_mb=100.0)
    assert row["tokens_per_second"] == 100.0
    assert row["tokens_per_cpu_second"] == 100.0  # 400 tokens in 2 CPU seconds of each of two processes
    assert row["mfu"] == 0.1
    assert (row["activations_mb"], row["logits_mb"]) == (404.0, 100.0)
    on_gpus = training.row_of("ours-ddp", runs, job | {"device": "cuda"}, peak=None, logits_mb=0.0)
    assert on_gpus["tokens_per_cpu_second"] == ""
    assert on_gpus["mfu"] == ""


def test_its_settings_are_those_of_the_config(training):
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["train"]
    options = {"micro_batch", "accumulate", "global_batch", "precision"}
    assert training.SETTINGS.keys() == config.keys() - options
    changed = {key for key, value in training.SETTINGS.items() if value != config[key]}
    assert changed == {
        "lean_layers",
        "compile",
        "loss_kernel",
        "checkpoint_every",
        "keep_checkpoints",
        "held_out",
    }


def test_each_system_changes_the_one_before_it(training):
    settings = [training.settings_of(name, training.SETTINGS) for name, _ in training.WATERFALL]
    assert settings[0] == training.SETTINGS
    for (_, changes), before, after in zip(training.WATERFALL[1:], settings, settings[1:], strict=False):
        assert changes
        assert after == before | changes != before


def test_a_system_without_its_package_is_left_out(training, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = {name: training.missing_package(name, training.SETTINGS) for name in training.SYSTEMS}
    assert missing == {
        "ours-zero3-offload-checkpointing": "deepspeed",
        "ours-checkpointing": None,
        "ours-ddp": None,
        "ours-lean": None,
        "ours-compiled": None,
        "ours-liger": "liger_kernel",
        "hf-trainer-checkpointing": "accelerate",
        "hf-trainer": "accelerate",
        "hf-trainer-onednn": "accelerate",
    }
