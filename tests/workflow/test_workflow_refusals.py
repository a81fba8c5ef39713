"""Snakemake refuses unsupported task settings at its start; it reads the definitions of tasks once."""

import json

import pytest
import yaml
from project_copy import SMOKE, Project

SCORES = "results/smoke/evaluations/base/{}.json"
OWN = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: own/capitals.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{country}}:"
doc_to_choice: "{{cities}}"
doc_to_target: "{{capital}}"
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project with a task of the user's own."""
    project = Project(tmp_path_factory.mktemp("refusals") / "copy")
    (project.folder / "own").mkdir()
    row = {"country": "Peru", "cities": ["Lima", "Cusco"], "capital": "Lima"}
    (project.folder / "own" / "capitals.jsonl").write_text(json.dumps(row) + "\n")
    (project.folder / "own" / "capitals.yaml").write_text(OWN)
    return project


def config(project, **tasks):
    settings = {"evaluate": {"include_path": "own", "tasks": tasks}}
    (project.folder / "tasks.yaml").write_text(yaml.safe_dump(settings))
    return (*SMOKE, "tasks.yaml")


def test_definitions_are_read_once_and_only_where_needed(copy):
    facts = copy.folder / ".snakemake" / "tasks"
    assert copy.planned(SCORES.format("piqa"))["fetch_benchmarks"] == 1 and not facts.exists()
    options = config(copy, capitals={}, again={"task": "capitals", "items": 1})
    planned = copy.planned(SCORES.format("capitals"), SCORES.format("again"), config=options)
    assert planned["fetch_task"] == 1
    (kept,) = facts.iterdir()
    assert json.loads(kept.read_text())["capitals"]["files"] == ["own/capitals.jsonl"]
    written = kept.stat().st_mtime_ns
    assert copy.planned(SCORES.format("capitals"), config=options)["fetch_task"] == 1
    assert [(path, path.stat().st_mtime_ns) for path in facts.iterdir()] == [(kept, written)]


def test_unsupported_settings_stop_the_plan(copy):
    printed = copy.snakemake("--dry-run", *config(copy, capitls={}), check=False)
    assert (
        "evaluate.tasks.capitls: lm-eval has no task or group capitls, nor in own; the nearest names: cap"
        in printed
    )
    with copy.edit("own/capitals.yaml", "doc_to_text", "metric_list: [{metric: perplexity}]\ndoc_to_text"):
        printed = copy.snakemake("--dry-run", *config(copy, capitals={}), check=False)
        assert (
            "evaluate.tasks.capitals: capitals has the metric perplexity, which lm-eval doesn't compute"
            in printed
        )
