"""The report wing's stages that the made-up experiment skips, and one stage as a process."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from report_experiment import PUBLISHED, REPOSITORY, evaluation_files

from cpt.report.rows import read_rows
from cpt.stage import arguments
from data import data
from merged_config import merged_config
from seeds import seeds


def table1(experiment: SimpleNamespace, folder: Path, **others: Any) -> subprocess.CompletedProcess:
    """Run table1.py as its rule does, with `others` replacing some of its parameters."""
    values = {"scores": experiment.root / "scores.csv", "published": PUBLISHED, "csv": folder / "table1.csv"}
    values |= {"markdown": folder / "table1.md", "latex": folder / "table1.tex", "runs": experiment.runs}
    values["base"] = experiment.root / "models" / "base.json"
    values |= {"tasks": experiment.table_tasks, "model": "the model", "log": folder / "log.txt", **others}
    command = [sys.executable, REPOSITORY / "scripts" / "table1.py", *arguments(**values)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_stages_write_their_tables(experiment: SimpleNamespace, tmp_path: Path) -> None:
    samples = evaluation_files(experiment.root, experiment.runs, experiment.metrics, ".samples.jsonl")
    summaries = evaluation_files(experiment.root, experiment.runs, experiment.metrics, ".json")
    groups = {"cpt-10K": ["cpt-10K", "cpt-25K"]}
    table = tmp_path / "seeds.csv"
    shown = list(experiment.table_tasks)
    seeds(samples, summaries, table, experiment.runs, experiment.metrics, shown, groups, "base")
    rows = read_rows(tmp_path / "seeds.csv", ("run", "task"))
    assert [row["quantity"] for row in rows] == ["score", "difference"] * (len(experiment.metrics) + 1)
    assert [row["task"] for row in rows[::2]] == [*experiment.metrics, "average"]
    averages = [row["score"] for row in experiment.scores if row["task"] == "average" and row["tokens"]]
    assert float(rows[-2]["mean"]) == pytest.approx(sum(averages) / 2, abs=1e-6)
    data(experiment.root / "corpora" / "statistics.csv", tmp_path / "data.csv")
    corpora = {row["corpus"] for row in read_rows(tmp_path / "data.csv", ("step", "tokens"))}
    assert corpora == set(experiment.corpora)
    merged_config(experiment.config, tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == experiment.config


def test_a_process_is_silent_or_ends_in_one_message(experiment: SimpleNamespace, tmp_path: Path) -> None:
    result = table1(experiment, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    sentence = "Base model: the model, dequantised from a 4-bit GGUF file of a model with a chat template."
    assert sentence in (tmp_path / "table1.md").read_text()
    assert all((tmp_path / f"table1.{kind}").stat().st_size > 1000 for kind in ("csv", "md", "tex"))
    (tmp_path / "scores.csv").write_text("run\nbase\n")
    result = table1(experiment, tmp_path, scores=tmp_path / "scores.csv", csv=tmp_path / "other.csv")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path}/scores.csv: expected the columns run, tokens,")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "other.csv").exists()
