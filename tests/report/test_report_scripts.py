"""The scripts of the wing on the command line, as the rules call them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from report_experiment import PUBLISHED, REPOSITORY


def call(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(REPOSITORY / "scripts" / script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )


def test_scripts_make_every_result(experiment: SimpleNamespace, tmp_path: Path) -> None:
    root, evaluate = experiment.root, experiment.config["evaluate"]
    runs, tasks = json.dumps(experiment.runs), json.dumps(experiment.tasks)
    trained = [run for run in experiment.runs if run["tokens"]]
    folders = [root / "runs" / run["name"] for run in trained]
    formats = ["--formats", "pdf", "png", "svg"]
    common = ["--runs", runs, "--published", PUBLISHED]
    steps = [
        ["scores.py", "--evaluations", root / "evaluations", "--tasks", tasks, *common]
        + ["--corpora", json.dumps(experiment.corpora), "--output", tmp_path / "scores.csv"]
        + ["--base", json.dumps(experiment.config["base"])],
        ["comparisons.py", "--evaluations", root / "evaluations", "--tasks", tasks, "--runs", runs]
        + ["--output", tmp_path / "comparisons.csv"],
        ["letters.py", "--evaluations", root / "evaluations", "--tasks", *experiment.tasks, "--runs", runs]
        + ["--output", tmp_path / "letters.csv"],
        ["runs.py", "--summaries", *[folder / "run.json" for folder in folders]]
        + ["--output", tmp_path / "runs.csv"],
        ["data.py", "--statistics", root / "corpora" / "statistics.csv", "--output", tmp_path / "data.csv"],
        ["seeds.py", "--evaluations", root / "evaluations", "--base", "base", "--tasks", tasks]
        + ["--groups", json.dumps({"cpt-10K": ["cpt-10K", "cpt-25K"]}), "--output", tmp_path / "seeds.csv"],
        ["claims.py", "--claims", REPOSITORY / "paper" / "claims.yaml", *common]
        + ["--config", root / "config.yaml", "--scores", tmp_path / "scores.csv"]
        + ["--runs-table", tmp_path / "runs.csv", "--output", tmp_path / "claims.csv"],
        ["table1.py", "--scores", tmp_path / "scores.csv", "--tasks", tasks, *common]
        + ["--base", json.dumps(experiment.config["base"]), "--csv", tmp_path / "table1.csv"]
        + ["--markdown", tmp_path / "table1.md", "--latex", tmp_path / "table1.tex"],
        ["figure1.py", "--metrics", *[folder / "metrics.csv" for folder in folders]]
        + ["--runs", json.dumps(trained), "--output-stem", tmp_path / "figures" / "figure1", *formats],
        [
            "figure2.py",
            "--scores",
            tmp_path / "scores.csv",
            "--groups",
            json.dumps(evaluate["groups"]),
            *common,
        ]
        + ["--output-stem", tmp_path / "figures" / "figure2", *formats],
        ["figure3.py", "--held-out", *[folder / "held_out.csv" for folder in folders]]
        + ["--runs", json.dumps([{"name": run["name"], "origin": run["name"]} for run in trained])]
        + ["--corpora", *experiment.corpora, "--evaluations", root / "evaluations", "--base", "base"]
        + ["--interpolated", json.dumps([{"name": trained[0]["name"], "run": trained[1]["name"]}])]
        + ["--output-stem", tmp_path / "figures" / "figure3", *formats],
        ["figure4.py", "--comparisons", tmp_path / "comparisons.csv", "--tasks", tasks]
        + ["--output-stem", tmp_path / "figures" / "figure4", *formats],
        ["figure5.py", "--letters", tmp_path / "letters.csv", "--task", "mmlu"]
        + ["--output-stem", tmp_path / "figures" / "figure5", *formats],
        ["figure6.py", "--statistics", root / "corpora" / "statistics.csv"]
        + ["--output-stem", tmp_path / "figures" / "figure6", *formats],
        ["token_quality.py", "--quality", root / "corpora" / "token_quality.csv"]
        + ["--settings", json.dumps(experiment.config["filters"]["token_quality"])]
        + ["--output-stem", tmp_path / "figures" / "token_quality", *formats],
        ["paper.py", "--template", REPOSITORY / "paper" / "paper.typ", "--published", PUBLISHED]
        + ["--references", REPOSITORY / "paper" / "references.bib", "--config", root / "config.yaml"]
        + ["--comparisons", tmp_path / "comparisons.csv", "--letters", tmp_path / "letters.csv"]
        + ["--claims", tmp_path / "claims.csv", "--claims-source", REPOSITORY / "paper" / "claims.yaml"]
        + ["--runs-table", tmp_path / "runs.csv"]
        + ["--scores", tmp_path / "scores.csv", "--base", root / "models" / "base.json"]
        + ["--statistics", root / "corpora" / "statistics.csv"]
        + ["--ledgers", root / "packed" / "domain" / "ledger.json"]
        + ["--runs", *[folder / "run.json" for folder in folders]]
        + ["--figures", *(tmp_path / "figures" / f"figure{number}.svg" for number in range(1, 7))]
        + ["--output", tmp_path / "paper.pdf"],
    ]
    for step in steps:
        result = call(*step, "--log-file", tmp_path / "log.txt", "--code", "0" * 16)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    tables = ["scores", "comparisons", "letters", "claims", "runs"]
    names = [
        *(f"{name}.csv" for name in (*tables, "data", "seeds")),
        "table1.csv",
        "table1.md",
        "table1.tex",
        "paper.pdf",
    ]
    names += [
        f"figures/{name}.{extension}"
        for name in (*(f"figure{number}" for number in range(1, 7)), "token_quality")
        for extension in ("pdf", "png", "svg")
    ]
    assert all((tmp_path / name).stat().st_size > 100 for name in names)
    for name in tables:
        assert (tmp_path / f"{name}.csv").read_bytes() == (root / f"{name}.csv").read_bytes(), name


def test_bad_input_is_one_message(experiment: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("run\nbase\n")
    result = call(
        *("figure2.py", "--scores", tmp_path / "scores.csv", "--groups", "{}", "--runs", "[]"),
        *("--published", PUBLISHED, "--output-stem", tmp_path / "figure2", "--formats", "svg"),
    )
    assert result.returncode == 1
    assert "scores.csv: expected the columns" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "figure2.svg").exists()
