"""Tasks beyond the seven test sets: fetched from a stand-in of the hub, scored with lm-eval's prompts."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import httpx2
import lm_eval
import pyarrow.parquet as pq
import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from task_hub import GATED, TaskHub

from cpt.errors import UserError
from cpt.evaluate.task_checks import Definition
from cpt.evaluate.task_data import _reason, save
from cpt.evaluate.task_definitions import LM_EVAL_TASKS, build
from cpt.evaluate.task_sources import Source
from cpt.evaluate.tasks import evaluate_task
from cpt.stage import arguments
from fetch_task import fetch_task

SCRIPT = Path(__file__).parents[2] / "scripts" / "fetch_task.py"
SCIQ = "allenai/sciq"


class Silent(LM):
    """A model that has no opinion, and needs no time."""

    def loglikelihood(self, requests, disable_tqdm=True):
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        return [-1.0 for _ in requests]

    def generate_until(self, requests, disable_tqdm=True):
        return ["" for _ in requests]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with TaskHub(tmp_path_factory.mktemp("cache")) as hub:
        hub.main = False  # nothing but the pinned commits
        yield hub


def options(place, task, shots, commits):
    """The parameters of fetch_task, with outputs in a folder."""
    values = {"folder": place / task, "manifest": place / f"{task}.json", "folders": [task.partition("_")[0]]}
    return {"lm_eval_task": task, "shots": shots, "commits": commits, **values}


@pytest.fixture(scope="module")
def sciq(hub, tmp_path_factory):
    """The folder with sciq, fetched by the script."""
    place = tmp_path_factory.mktemp("tasks")
    values = options(place, "sciq", {"sciq": None, "sciq5": 5}, {SCIQ: hub.revisions[SCIQ]})
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    command = [sys.executable, SCRIPT, *arguments(**values, log=place / "log")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return place


def test_data_items_and_digests_are_kept(sciq, hub):
    manifest = json.loads((sciq / "sciq.json").read_text())
    (data,) = manifest["data"].values()
    assert (data["repository"], data["commit"]) == (SCIQ, hub.revisions[SCIQ])
    assert {split: entry["rows"] for split, entry in data["splits"].items()} == {"test": 10, "train": 10}
    assert manifest["items"] == {"sciq": 10}
    items = pq.read_table(sciq / "sciq" / "items.parquet")
    assert items.schema.names == ["task", "item", "text"] and items.num_rows == 10
    assert str(items.schema.field("item").type) == "int64"
    (folder,) = (path for path in (sciq / "sciq").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]
    rows = datasets.load_from_disk(str(folder / "test"))
    text = items["text"][3].as_py()
    lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows]
    digests = {split: entry["content_sha256"] for split, entry in data["splits"].items()}
    assert digests["test"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    whole = "".join(f"{folder.name} {split} {digests[split]}\n" for split in ("test", "train"))
    assert manifest["content_sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    assert all(rows[3][key] in text for key in ("question", "correct_answer", "distractor1"))
    assert items["task"][3].as_py() == "sciq" and "Answer:" in text.splitlines()[-5]


@pytest.fixture
def theirs(monkeypatch, sciq, tmp_path):
    """theirs(task, shots, folder): the prompt hash of each item by lm-eval's own simple_evaluate."""
    (folder,) = (path for path in (sciq / "sciq").iterdir() if path.is_dir())
    load = datasets.load_dataset

    def local(path, *args, **kwargs):
        if path != SCIQ:
            return load(path, *args, **kwargs)
        return datasets.DatasetDict({s: datasets.load_from_disk(str(folder / s)) for s in ("train", "test")})

    def run(task, shots, include_path):
        monkeypatch.setattr(datasets, "load_dataset", local)
        monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # runs a dozen programs
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        datasets.enable_caching()  # as it is by default
        manager = TaskManager(include_defaults=False, include_path=[include_path])
        evaluation = lm_eval.simple_evaluate(Silent(), tasks=[task], num_fewshot=shots, task_manager=manager)
        monkeypatch.undo()
        return {record["doc_id"]: record["prompt_hash"] for record in evaluation["samples"][task]}

    return run


@pytest.mark.parametrize("shots", [None, 0, 3, 5])
def test_prompts_are_lm_evals_also_those_of_a_subset(sciq, theirs, tmp_path, shots):
    expected = theirs("sciq", shots, LM_EVAL_TASKS / "sciq")
    settings = {"shots": shots, "fetched": sciq, "column": "questions"}
    result, samples = evaluate_task(Silent(), tmp_path, "sciq", None, 0, **settings)
    assert {sample["item"]: sample["prompt_hash"] for sample in samples} == expected
    assert (result["task"], result["lm_eval_task"], result["shots"]) == ("questions", "sciq", shots or 0)
    assert len(set(expected.values())) == 10
    few, some = evaluate_task(Silent(), tmp_path, "sciq", 4, 0, **settings)
    assert (few["n"], few["items_of_full"]) == (4, 10) == (len(some), len(samples))
    assert {sample["item"]: sample["prompt_hash"] for sample in some}.items() < expected.items()


OWN = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: {kind}
test_split: test
fewshot_split: test
doc_to_text: "{{{{country}}}}:"
doc_to_target: "{{{{capital}}}}"
num_fewshot: 2
description: "Capitals of {{{{continent}}}}.\\n\\n"
target_delimiter: " is "
{more}
"""
NAMES = ["Rome", "Paris", "Lima", "Oslo", "Bern", "Kyiv", "Cairo", "Quito", "Delhi", "Accra"]
CODE = """
def docs(dataset):
    return dataset.filter(lambda row: row["capital"] != "Oslo")
def shuffled(dataset):
    import random
    return dataset.map(lambda row: {**row, "cities": random.sample(row["cities"], 2)})
def counted(doc, results):
    return {"length": len(results[0]), "ending": results[0][-1:]}
"""


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("multiple_choice", "doc_to_choice: '{{cities}}'"),
        ("multiple_choice", "doc_to_choice: '{{cities}}'\nfewshot_config: {sampler: first_n}"),
        ("multiple_choice", "doc_to_choice: cities\nprocess_docs: !function code.docs"),
        (
            "multiple_choice",
            "doc_to_choice: cities\nprocess_docs: !function code.shuffled\ndescription: '{{cities}}'",
        ),
        (
            "multiple_choice",
            "doc_to_choice: cities\nfewshot_config: {samples: [{country: X, capital: Y, cities: [Y]}]}",
        ),
        ("loglikelihood", "metric_list: [{metric: acc}, {metric: perplexity}]"),
        ("generate_until", "generation_kwargs: {until: ['.'], max_gen_toks: 3}\ngen_prefix: 'It is'"),
        (
            "generate_until",
            "filter_list: [{name: a, filter: [{function: take_first}]}, {name: b, filter: "
            "[{function: lowercase}, {function: take_first}]}]",
        ),
    ],
)
def test_what_an_own_definition_says_is_done_as_lm_eval_does(tmp_path, theirs, kind, more):
    file = tmp_path / "capitals.jsonl"
    rows = [
        {"country": f"C{n}", "continent": "Asia", "capital": name, "cities": [name, f"{name} City"]}
        for n, name in enumerate(NAMES)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "code.py").write_text(CODE)
    split = "fewshot_split: test\n" if "samples" in more else ""
    text = OWN.format(file=file, kind=kind, more=more).replace(split or "\0", "")
    (folder / "own.yaml").write_text(text.replace("num_fewshot: 2", f"num_fewshot: {1 if split else 2}"))
    expected = theirs("capitals", None, folder)
    settings = {"include_path": folder, "task_code": True}
    result, samples = evaluate_task(Silent(), tmp_path, "capitals", None, 0, **settings)
    assert {sample["item"]: sample["prompt_hash"] for sample in samples} == expected
    _, some = evaluate_task(Silent(), tmp_path, "capitals", 4, 0, **settings)
    assert {sample["item"]: sample["prompt_hash"] for sample in some}.items() < expected.items()
    assert result["n"] == len(expected) == (9 if "code.docs" in more else 10)
    if "filter_list" in more:
        assert list(result["metrics"])[::2] == ["exact_match,a", "exact_match,b"]
        assert {"exact_match,a", "exact_match,b", "answer", "ending"} <= set(samples[0])
    if kind == "loglikelihood":
        assert result["aggregations"] == {"acc": "mean", "perplexity": "perplexity"}
        assert result["metrics"]["perplexity"] == pytest.approx(2.718281828)
        assert result["higher_is_better"] == {"acc": True, "perplexity": False}
        assert samples[0]["perplexity"] == -1.0 and result["chance"] is None


def test_more_examples_than_there_are(tmp_path, sciq):
    with pytest.raises(
        UserError, match=r"tasks\.q\.shots: sciq has 10 examples, but 11 are asked for; lower"
    ):
        evaluate_task(Silent(), tmp_path, "sciq", None, 0, fetched=sciq, shots=11, column="q")


def test_more_examples_than_the_context_holds(tmp_path, sciq):
    model = Silent()
    model.max_length, model.tok_encode = 300, list  # a token is a character
    with pytest.raises(
        UserError, match=r"tasks\.q\.shots: 5 examples and the first question of sciq have \d+ tok"
    ):
        evaluate_task(model, tmp_path, "sciq", None, 0, fetched=sciq, shots=5, column="q")
    model.max_length = 10**6
    evaluate_task(model, tmp_path, "sciq", None, 0, fetched=sciq, shots=5, column="q")


def test_what_cannot_be_fetched_is_named_before_it_is_trained(hub, tmp_path, monkeypatch):
    name, commits = "gpqa_main_zeroshot", {GATED: hub.revisions[GATED]}
    with hub.online():
        monkeypatch.setenv("HF_TOKEN", "")
        with pytest.raises(
            UserError, match=rf"tasks\.gpqa: {name}: {GATED} at .*: access is gated; accept its te"
        ):
            fetch_task(**options(tmp_path, name, {"gpqa": None}, commits))
        monkeypatch.undo()
    with hub.online():
        fetch_task(**options(tmp_path, name, {"gpqa": None}, commits))
    assert (tmp_path / f"{name}.json").is_file()
    for column, shots, commit, why in (
        (
            "q",
            None,
            "0" * 40,
            "tasks.q: sciq: allenai/sciq at 0*: there is no such commit; pin one that its list",
        ),
        ("q", 11, hub.revisions[SCIQ], r"evaluate\.tasks\.q\.shots: sciq has 10 examples, but 11 are asked"),
    ):
        with hub.online(), pytest.raises(UserError, match=why):
            fetch_task(**options(tmp_path, "sciq", {column: shots}, {SCIQ: commit}))
    assert not (tmp_path / "sciq.json").exists() and not (tmp_path / "sciq").exists()


def test_reasons_say_what_to_do(tmp_path):
    source = Source("a/b", ())
    for error, why in (
        (OSError(errno.ENOSPC, "full"), f"the disk of {tmp_path} is full; make room there, or set HF_HOME"),
        (
            ConnectionError("secret"),
            "the hub can't be reached; check the network of this machine, HF_ENDPOINT",
        ),
        (httpx2.ConnectError("secret"), "the hub can't be reached; check the network of this machine, HF_E"),
        (
            datasets.exceptions.DatasetNotFoundError("x"),
            "there is no such data set, or it is private; check HF_ENDPOINT, and set HF_TOKEN",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "its data are made by a script, which `datasets` runs no more; pin a commit that has",
        ),
        (ValueError("BuilderConfig 'x' not found"), "`datasets` can't read it (ValueError: BuilderConfig"),
    ):
        assert _reason(error, source, tmp_path).startswith(why)


def test_a_split_that_is_not_there(tmp_path, monkeypatch):
    leaves = build(["sciq"], ["sciq"], Definition)["tasks"].values()
    with pytest.raises(
        UserError, match=r"evaluate\.revisions: sciq reads allenai/sciq, which isn\'t pinned; add a"
    ):
        save(leaves, {}, tmp_path, tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"train": []}))
    with pytest.raises(UserError, match=r"sciq: allenai/sciq has no split test; it has train: pin a commit"):
        save(leaves, {SCIQ: "0" * 40}, tmp_path, tmp_path)
