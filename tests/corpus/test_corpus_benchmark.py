"""The corpus benchmark: its arithmetic, and a run of the systems that need only this project."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cpt.config_sections import RepetitionFilter
from cpt.stage import arguments

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def corpus_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import corpus

    return corpus


def test_table_by_hand(corpus_benchmark):
    measured = {
        ("a", "one"): [(1.0, 10), (4.0, 30), (2.0, 20)],  # seconds and memory
        ("a", "two"): [(2.0, 50), (1.0, 40), (0.5, 40)],
        ("a", "decontaminate"): [(9.0, 60), (3.0, 60), (1.0, 60)],  # not in the sum
        ("b", "only"): [(8.0, 5), (9.0, 5), (10.0, 5)],
    }
    runs = pd.DataFrame(
        [
            {"system": system, "stage": stage, "repeat": repeat, "seconds": seconds, "memory_mb": memory}
            | {"process_seconds": 2 * seconds, "tokens": 8_100 if stage in ("two", "only") else np.nan}
            for (system, stage), repeats in measured.items()
            for repeat, (seconds, memory) in enumerate(repeats)
        ]
    )
    table = corpus_benchmark.summary(runs, {"a": (9_000, 18_000_000), "b": (9_000, 18_000_000)})
    columns = ["tokens_per_second_per_core", "megabytes_per_second", "peak_memory_mb"]
    assert [tuple(row) for row in table.reset_index()[["system", "stage", *columns]].values] == [
        ("a", "all", 3000, 6.0, 50),  # sums of a repeat: 3, 5, 2.5 seconds
        ("a", "one", 4500, 9.0, 30),
        ("a", "two", 9000, 18.0, 50),
        ("a", "decontaminate", 3000, 6.0, 60),
        ("b", "all", 1000, 2.0, 5),
    ]
    assert table["kept"]["a", "all"] == table["kept"]["b", "all"] == 0.9
    assert table["process_seconds"]["a", "all"] == 6


@pytest.mark.experiments
def test_a_small_run(model_folder, save_table, tmp_path):
    texts = [f"Rain number {i} fell on the plain and ran away.\n" * 2 + f"{i}\nagain" for i in range(99)]
    raw = save_table(tmp_path / "raw" / "00000.parquet", {"text": texts})
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["packing"]["sequence_length"] = 16
    config["filters"] |= {"token_quality": {"minimum_bytes_per_token": 0.5}}
    repetition = RepetitionFilter().model_dump()
    config["filters"]["repetition"] = {
        key: 1.0 if isinstance(value, float) else dict.fromkeys(value, 1.0)
        for key, value in repetition.items()
    }
    config["filters"]["length"] = {"maximum_short_line_share": 1.0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    items = {"task": ["arc"], "item": [0], "text": ["What fell on the plain and ran away from there again?"]}
    save_table(tmp_path / "benchmarks" / "items.parquet", items)
    options = arguments(
        raw=[raw],
        model=model_folder,
        config=tmp_path / "config.yaml",
        table=tmp_path / "corpus.csv",
        benchmarks=tmp_path / "benchmarks",
        repeats=2,
        systems=["ours-gigatoken", "limit-hf", "limit-gigatoken"],
        small=["limit-hf"],
    )
    command = [sys.executable, str(ROOT / "benchmarks" / "corpus.py"), *options]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "corpus.csv") as file:
        rows = list(csv.DictReader(file))
    stages = ["all", "filter", "deduplicate", "decontaminate", "tokenize", "pack"]
    assert [(row["system"], row["stage"]) for row in rows] == [
        *(("ours-gigatoken", stage) for stage in stages),
        ("limit-hf", "all"),
        ("limit-gigatoken", "all"),
    ]
    assert all(float(row["tokens_per_second_per_core"]) > 0 for row in rows)
    assert all(30 < float(row["peak_memory_mb"]) < 1000 for row in rows)
    assert "times the rate of limit-hf" in done.stderr
    assert "repeat 2, ours-gigatoken" in done.stderr and "repeat 2, limit-hf" not in done.stderr
