"""Tasks by lm-eval's names in the config: Snakemake fetches their data and scores a model on them."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from project_copy import SMOKE, Project

sys.path.append(str(Path(__file__).resolve().parents[1] / "evaluate"))
from task_hub import TaskHub

TASKS = {
    "sciq_5": {"task": "sciq", "shots": 5, "label": "SciQ, 5-shot"},
    "sciq": {},
    "gsm8k": {"shots": 2, "items": 4, "metric": "exact_match,strict-match"},
}
SCORES = [f"results/smoke/evaluations/base/{column}.json" for column in TASKS]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with TaskHub(tmp_path_factory.mktemp("hub")) as hub, pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.delenv(name, raising=False)  # scoring's tests set them
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(hub.cache))
        hub.main = False  # only the pinned commits are there
        yield hub


@pytest.fixture(scope="module")
def project(hub, tmp_path_factory):
    copy = Project(tmp_path_factory.mktemp("tasks") / "copy")
    revisions = {name: hub.revisions[name] for name in ("allenai/sciq", "openai/gsm8k")}
    evaluate = {"tasks": TASKS, "revisions": revisions}
    (copy.folder / "tasks.yaml").write_text(yaml.safe_dump({"evaluate": evaluate}))
    return copy


def test_snakemake_fetches_and_scores_tasks_by_their_names(hub, project):
    options = (*SMOKE, "tasks.yaml")
    planned = project.planned(*SCORES, config=options)
    assert planned["fetch_task"] == 2 and not hub.asked
    project.snakemake(*SCORES, "--quiet", "all", *options)
    five, none, gsm8k = (json.loads((project.folder / path).read_text()) for path in SCORES)
    assert (five["shots"], none["shots"], gsm8k["shots"]) == (5, 0, 2)
    assert (five["n"], gsm8k["n"], gsm8k["items_of_full"]) == (8, 4, 8)  # evaluate.items is 8
    assert five["metrics"]["acc"] is not None and "exact_match,strict-match" in gsm8k["metrics"]
    prompts = [
        [json.loads(line)["prompt_hash"] for line in Path(path).read_text().splitlines()]
        for path in (project.folder / score.replace(".json", ".samples.jsonl") for score in SCORES[:2])
    ]
    assert not set(prompts[0]) & set(prompts[1])  # with and without examples
    requests = len(hub.asked)
    assert project.planned(*SCORES, config=options) == {} and len(hub.asked) == requests
