"""The jobs that the corpus's jobs wait for, as Snakemake plans them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SHARD = "results/smoke/corpora/networkx/{}/00000.{}"


def planned(folder: Path, *targets: str, config: str | None = None) -> dict[str, int]:
    """Jobs per rule for some files of the smoke experiment, in an empty folder."""
    command = [sys.executable, "-m", "snakemake", *targets, "--dry-run", "--cores", "1", "--quiet", "rules"]
    command += ["--snakefile", ROOT / "Snakefile", "--configfile", ROOT / "experiments" / "smoke.yaml"]
    done = subprocess.run(
        [*command, *(["--config", config] if config else [])],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


def test_nothing_waits_for_decontamination_that_only_reports(tmp_path):
    """So nothing is tokenized again for a new task, unless contaminated documents are dropped."""
    targets = SHARD.format("tokens", "tokens"), "results/smoke/corpora/overlap.json"
    jobs = planned(tmp_path, *targets)
    assert "deduplicate" in jobs and not {"decontaminate", "fetch_benchmarks"} & set(jobs)
    for target in targets:
        assert planned(tmp_path, target, config="decontaminate={drop: true}")["decontaminate"] >= 1


def test_items_of_additional_tasks_are_searched_for(tmp_path):
    target = SHARD.format("decontaminated", "json")
    assert "fetch_task" not in planned(tmp_path, target)
    data = tmp_path / "items.jsonl"
    data.write_text(json.dumps({"question": "Which way is up?", "choices": ["this", "that"], "answer": 0}))
    task = {
        **{"task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}},
        **{"test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}"},
        **{"doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}"},
    }
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.yaml").write_text(yaml.safe_dump(task))
    tasks = f"evaluate={{include_path: {tmp_path}/own, tasks: {{own: {{}}}}}}"
    assert planned(tmp_path, target, config=tasks)["fetch_task"] == 1
