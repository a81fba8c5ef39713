"""Tasks that are Python classes: the workflow reads their settings and refuses what it can't do."""

import pytest
from capitals import ROWS, inspected, write_rows

from cpt.errors import UserError
from cpt.evaluate.task_checks import Definition
from cpt.evaluate.task_data import read_directly, save, saved_in
from cpt.evaluate.task_definitions import (
    build,
    with_data,
)
from cpt.evaluate.task_items import check_items
from cpt.evaluate.task_sources import splits_of

CLASS = """
from datasets import concatenate_datasets
from lm_eval.api.task import ConfigurableTask, Task

class Capitals(ConfigurableTask):
    DATASET_PATH = "json"

    def __init__(self):
        settings = {"output_type": "generate_until", "test_split": "test", "fewshot_split": "train"}
        files = {"data_files": {"test": "FOLDER/test.jsonl", "train": "FOLDER/train.jsonl"}}
        super().__init__(config={**settings, "dataset_kwargs": files})

    def doc_to_text(self, doc, _=None):
        return doc["country"] + ":"

    def doc_to_target(self, doc, _=None):
        return doc["capital"]

    def process_results(self, doc, results):
        return {"length": len(results[0])}

    def aggregation(self):
        return {"length": max}

    def higher_is_better(self):
        return {"length": False}

class Pictures(Capitals):
    MULTIMODAL = True

class Coded(Capitals):
    UNSAFE_CODE = True

class Made(Capitals):
    def download(self, *_, **__):
        self.dataset = {}

class Sampled(Capitals):
    def __init__(self, config):
        super(Capitals, self).__init__(config={"generation_kwargs": {"do_sample": True}})

class Several(Capitals):
    def test_docs(self):
        return concatenate_datasets([self.dataset[split] for split in ("test", "train", "more")])

class Old(Task):
    pass
"""


@pytest.fixture
def own_class(tmp_path):
    """own_class(name): a folder with a task that this class of CLASS defines."""

    def make(name):
        write_rows(tmp_path)
        (tmp_path / "code.py").write_text(CLASS.replace("FOLDER", str(tmp_path)))
        (tmp_path / "own.yaml").write_text(f"task: capitals\nclass: !function code.{name}\n")
        return tmp_path

    return make


def test_a_python_class_is_read_as_it_says(own_class, tmp_path):
    folder = own_class("Capitals")
    with pytest.raises(UserError, match=r"set evaluate\.task_code: true to allow it"):
        inspected("capitals", folder)
    facts = inspected("capitals", folder, task_code=True, metric="length", shots=1)
    assert facts["own"] and [file.rpartition("/")[2] for file in facts["files"]] == [
        "test.jsonl",
        "train.jsonl",
    ]
    kind = with_data(read_directly(tmp_path / "cache"))
    leaf = build(["capitals"], [], kind, folder, task_code=True)["tasks"]["capitals"]
    assert splits_of(leaf) == {"test", "train"}
    leaf.dataset = read_directly(tmp_path / "cache")(leaf)
    check_items(leaf)


def test_a_python_class_may_read_several_splits(own_class, tmp_path):
    folder = own_class("Several")
    code = folder / "code.py"
    code.write_text(code.read_text().replace('"test": "', '"more": "FOLDER/test.jsonl", "test": "', 1))
    code.write_text(code.read_text().replace("FOLDER", str(tmp_path)))
    (defined,) = build(["capitals"], [], Definition, folder, task_code=True)["tasks"].values()
    saved = save([defined], {}, tmp_path / "saved", tmp_path / "cache")
    assert [sorted(entry["splits"]) for entry in saved.values()] == [["more", "test", "train"]]
    kind = with_data(saved_in(tmp_path / "saved"))
    leaf = build(["capitals"], [], kind, folder, task_code=True)["tasks"]["capitals"]
    assert len(leaf.task_docs) == 3 * len(ROWS)
    check_items(leaf)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pictures", r"capitals asks about pictures or sound \(MULTIMODAL\), and only text is scored; leave"),
        (
            "Coded",
            r"runs code that the model has written \(UNSAFE_CODE\), which isn't done; leave the task out",
        ),
        (
            "Made",
            r"capitals makes its data by code \(Made\.download\), of which no commit can be pinned; leave",
        ),
        ("Sampled", "capitals draws its answers at random"),
        ("Old", "is defined by Python code that isn't a ConfigurableTask of lm-eval; write it as one"),
    ],
)
def test_python_classes_that_are_refused(own_class, name, message):
    with pytest.raises(UserError, match=message):
        inspected("capitals", own_class(name), task_code=True)
