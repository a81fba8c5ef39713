"""A user's own task, capitals, and what the workflow reads from its definition and from other tasks'."""

import json

from cpt.config_evaluate import Task
from cpt.evaluate.task_checks import inspect_task
from cpt.evaluate.task_data import read_directly
from cpt.evaluate.task_definitions import build, with_data

COMMIT = "0123456789" * 4
HUB = {
    "hazyresearch/based-swde-v2": COMMIT,
    "allenai/sciq": COMMIT,
    "openai/gsm8k": COMMIT,
    "EleutherAI/arithmetic": COMMIT,
}
OWN = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/test.jsonl, train: FOLDER/train.jsonl}}
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "{{country}}:"
doc_to_choice: "{{cities}}"
doc_to_target: "{{capital}}"
"""
ROWS = [
    {"country": "Italy", "cities": ["Rome", "Milan"], "capital": "Rome"},
    {"country": "Peru", "cities": ["Cusco", "Lima"], "capital": "Lima"},
]


def write_rows(folder, rows=ROWS):
    for split in ("test", "train"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def inspected(task, include_path=None, task_code=False, **settings):
    return inspect_task(task, {"x": Task(task=task, **settings)}, HUB, include_path, task_code)


def loaded(folder, tmp_path):
    """The task `capitals` of a folder, with its data."""
    return build(["capitals"], [], with_data(read_directly(tmp_path / "cache")), folder)["tasks"]["capitals"]
