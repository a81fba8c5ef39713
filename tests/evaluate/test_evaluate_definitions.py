"""The workflow does what a task's definition says, or refuses it before it fetches anything."""

import importlib.util

import pytest
from capitals import OWN, ROWS, inspected, loaded, write_rows
from lm_eval.tasks import TaskManager

from cpt.errors import UserError
from cpt.evaluate.task_data import read_directly
from cpt.evaluate.task_definitions import (
    LM_EVAL_TASKS,
    _index,
    build,
    defining_folders,
    folders_of,
    with_data,
)
from cpt.evaluate.task_items import check_items, right_answers


@pytest.fixture
def own(tmp_path):
    """own(text, rows): a folder with a task of these settings and rows."""

    def make(text="", rows=ROWS, remove=""):
        write_rows(tmp_path, rows)
        lines = [line for line in OWN.splitlines() if not remove or not line.startswith(remove)]
        definition = "\n".join(lines).replace("FOLDER", str(tmp_path))
        (tmp_path / "own.yaml").write_text(f"{definition}\n{text}\n")
        return tmp_path

    return make


def test_what_the_workflow_must_know_of_a_task(own):
    sciq = inspected("sciq", shots=5, metric="acc_norm")
    assert sciq["folders"] == ["sciq"] and sciq["repositories"] == ["allenai/sciq"] and not sciq["files"]
    assert not sciq["own"] and not sciq["in_benchmarks"] and sciq["output_type"] == "multiple_choice"
    stem = inspected("mmlu_stem")  # a group; fetch_benchmarks has its data
    assert stem["in_benchmarks"] and stem["repositories"] == ["cais/mmlu"]
    assert inspected("gsm8k", metric="exact_match,strict-match")["output_type"] == "generate_until"
    assert inspected("arithmetic_2da")["repositories"] == ["EleutherAI/arithmetic"]  # files on the hub
    folder = own()
    capitals = inspected("capitals", folder)
    assert capitals["own"] and capitals["files"] == [
        str(folder / f"{split}.jsonl") for split in ("test", "train")
    ]
    group = "group: both\ntask: [capitals, sciq]\n"
    (folder / "group.yaml").write_text(group)
    assert inspected("both", folder)["folders"] == ["sciq"]


@pytest.mark.experiments
def test_names_are_found_where_lm_eval_finds_them():
    whole = TaskManager().task_index
    defined = {name: entry.yaml_path for name, entry in whole.items() if entry.yaml_path}
    assert len(defined) > 10_000
    folders = defining_folders()
    assert {name: path.relative_to(LM_EVAL_TASKS).parts[0] for name, path in defined.items()} == {
        name: folders[name] for name in defined
    }
    tags = ["math_word_problems", *sorted(set(whole) - set(defined))[::200]]
    assert len(folders_of(tags[0], None)) > 1  # spread over folders
    for tag in tags:
        assert _index(folders_of(tag, None), None)[tag].tags == whole[tag].tags


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("siq", r"x: lm-eval has no task or group siq, and .* the nearest names: sciq.*; fix its name"),
        ("scrolls", "lm-eval has no task or group scrolls, and .* the nearest names: scrolls_[a-z]+, "),
        ("lambada", "evaluate.revisions: lambada_.* reads .*lambada.*, which isn't pinned; add a commit"),
        (
            "squadv2",
            r"squadv2 computes its metrics by code from the hub \(`evaluate`\), of which no commit can be",
        ),
        (
            "minerva_math_algebra",
            "isn't installed .*; install it with `pip install [a-z0-9=.-]+`, or leave the task",
        ),
        ("humaneval", r"runs code that the model has written \(unsafe_code\), which isn't done; leave it"),
        ("truthfulqa", r"different output types \(generate_until, multiple_choice\), which one column can't"),
        ("glue", "its tasks have no metric in common; name its tasks as columns"),
        ("openllm", "several tasks of the group openllm have the one name mmlu, so lm-eval would score one"),
    ],
)
def test_tasks_of_lm_eval_that_are_refused(task, message):
    with pytest.raises(UserError, match=message):
        inspected(task)


@pytest.mark.parametrize(
    ("task", "asked", "message"),
    [
        (
            "sciq",
            {"metric": "exact_match"},
            r"tasks\.x\.metric: the task has no exact_match; choose one",
        ),
        ("gsm8k", {"metric": "acc"}, r"choose one of exact_match,strict-match, exact_match,flexible-extract"),
        ("arithmetic_2da", {"metric": "perplexity"}, "has no perplexity; choose one of acc"),
    ],
)
def test_a_column_asks_for_what_the_task_has(task, asked, message):
    with pytest.raises(UserError, match=message):
        inspected(task, **asked)


GENERATES = "output_type: generate_until\nmetric_list: [{metric: exact_match}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output_type: chat", "capitals has output_type: chat; lm-eval knows multiple_choice, loglikelihood"),
        ("doc_to_image: picture", "has doc_to_image, and only text is scored; leave the task out"),
        ("use_prompt: 'promptsource:x'", r"takes its prompt from promptsource \(use_prompt\); write it"),
        (
            "metric_list: [{metric: accuracy}]",
            r"metric accuracy, which isn't lm-eval's but would",
        ),
        (
            "metric_list: [{metric: f1, hf_evaluate: true}]",
            "the metric f1, which isn't lm-eval's but",
        ),
        (
            "metric_list: [{metric: perplexity}]",
            "perplexity, which lm-eval doesn't compute of",
        ),
        (
            "metric_list: [{metric: acc, aggregation: sum}]",
            "aggregation: sum of acc; lm-eval knows",
        ),
        ("fewshot_config: {sampler: nearest}", "has sampler: nearest; lm-eval knows default, first_n"),
        (
            "fewshot_config: {fewshot_indices: [1]}",
            "has fewshot_indices, which lm-eval reads",
        ),
        ("num_shots: 5", r"x: lm-eval can't load it \(TypeError: .*num_shots.*fix its YAML file in"),
        (
            GENERATES + "generation_kwargs: {do_sample: true}",
            "draws its answers at random .* set do_s",
        ),
        (GENERATES + "generation_kwargs: {temperature: 0.7}", "draws its answers at random"),
        (GENERATES + "generation_kwargs: {num_beams: 4}", "searches with num_beams: 4; only greedy"),
        (
            GENERATES + "generation_kwargs: {min_p: 0.1}",
            "generation_kwargs: min_p, which isn't done",
        ),
        ("dataset_kwargs: {streaming: true}", r"streams its data \(dataset_kwargs: str"),
        (
            "dataset_kwargs: {trust_remote_code: true}",
            "asks for trust_remote_code, and `data",
        ),
        (
            "dataset_kwargs: {data_files: nothere.jsonl}",
            "no files nothere.jsonl .*; fix dataset_kw",
        ),
        (
            "dataset_kwargs: {data_files: 'https://x.org/y'}",
            "reads https://x.org/y, which has no commit",
        ),
        ("dataset_path: null", "capitals has no dataset_path; name its data set, or files"),
        (
            "dataset_path: some/data",
            "capitals reads some/data, which isn't pinned; add",
        ),
        (
            "custom_dataset: !function code.make",
            r"calls Python code \(!function code\.m",
        ),
    ],
)
def test_own_settings_that_are_refused(own, text, message):
    with pytest.raises(UserError, match=message):
        inspected("capitals", own(text, remove=text.partition(":")[0]))


def test_examples_are_refused_where_lm_eval_gives_none(own):
    with pytest.raises(UserError, match=r"shots: capitals is defined with num_fewshot: 0, which"):
        inspected("capitals", own("num_fewshot: 0"), shots=2)
    rolling = "output_type: loglikelihood_rolling\nmetric_list: [{metric: bits_per_byte}]"
    folder = own(rolling, remove="output_type")
    with pytest.raises(UserError, match=r"x\.shots: capitals measures running text .* no examples; remove"):
        inspected("capitals", folder, shots=2)


def test_examples_are_refused_where_lm_eval_fails_to_give_them():
    with pytest.raises(
        UserError, match=r"x\.shots: lm-eval can't give examples to swde, as its Python class"
    ):
        inspected("swde", shots=1)


def test_code_of_an_own_folder_runs_only_if_it_is_allowed(own):
    folder = own("doc_to_target: !function code.target", remove="doc_to_target")
    (folder / "code.py").write_text("def target(doc):\n    return doc['capital']\n")
    with pytest.raises(UserError, match=r"read it, and set evaluate\.task_code: true to allow it"):
        inspected("capitals", folder)
    assert inspected("capitals", folder, task_code=True)["own"]
    (folder / "code.py").write_text("def target(doc):\n    import nothere\n    return nothere.x\n")
    with pytest.raises(UserError, match="needs nothere, which isn't installed; install it with `pip inst"):
        inspected("capitals", folder, task_code=True)
    (folder / "code.py").write_text("import rouge_score\ndef target(doc):\n    return 0\n")
    if importlib.util.find_spec("rouge_score") is None:
        with pytest.raises(UserError, match=r"that isn't installed .* `pip install rouge-score`"):
            inspected("capitals", folder, task_code=True)


@pytest.mark.parametrize(
    ("text", "rows", "message"),
    [
        (
            "",
            [ROWS[0], {**ROWS[1], "capital": "Quito"}],
            "item 1: doc_to_target gives 'Quito'; exp",
        ),
        (
            "",
            [ROWS[0], {**ROWS[1], "cities": ["", "Lima"]}],
            r"item 1: doc_to_choice gives \['', 'Li",
        ),
        (
            "",
            [ROWS[0], {**ROWS[1], "country": None, "cities": None}],
            "item 1: lm-eval can't read it, or c",
        ),
        (
            "doc_to_target: capital",
            [{**ROWS[0], "capital": [0]}, {**ROWS[1], "capital": []}],
            "item 1: doc_to_target gives no right answer; fix the item",
        ),
        (
            "doc_to_target: capital\nmetric_list: [{metric: acc_mutual_info}]",
            [{**row, "capital": [0]} for row in ROWS],
            "item 0: lm-eval's acc_mutual_info can't count several right answers; remove that metric",
        ),
        (
            "metric_list: [{metric: brier_score}]",
            [ROWS[0], {**ROWS[1], "cities": ["Lima", "Cusco", "Piura"]}],
            "capitals: lm-eval can't sum up its metric brier_score .*; leave the metric out",
        ),
        (
            "doc_to_text: '{{country}}'",
            [ROWS[0], {**ROWS[1], "country": "42"}],
            "doc_to_text gives 42, but t",
        ),
        (
            "output_type: loglikelihood\ndoc_to_target: '{{capital}}'",
            [ROWS[0], {**ROWS[1], "capital": ""}],
            "item 1: doc_to_target gives ''; expected text that isn't empty: fix the item or doc_to_target",
        ),
        (
            GENERATES + "doc_to_target: '{{capital}}'",
            [ROWS[0], {**ROWS[1], "capital": "['Lima', 'Callao']"}],
            "item 1: it has several right answers, unlike the first item; lm-eval decides by the first",
        ),
    ],
)
def test_items_that_cannot_be_scored_are_named(own, tmp_path, text, rows, message):
    keys = {line.partition(":")[0] for line in text.splitlines()}
    folder = own(text)
    lines = [line for line in OWN.splitlines() if line.partition(":")[0] not in keys]
    if "output_type: gen" in text or "output_type: log" in text:
        lines = [line for line in lines if not line.startswith("doc_to_choice")]
    write_rows(folder, rows)
    (folder / "own.yaml").write_text("\n".join(lines).replace("FOLDER", str(folder)) + f"\n{text}\n")
    with pytest.raises(UserError, match=message):
        check_items(loaded(folder, tmp_path))


def test_numbers_of_numpy_are_numbers(own, tmp_path):
    folder = own("doc_to_target: !function code.target", remove="doc_to_target")
    (folder / "code.py").write_text("import numpy as np\ndef target(doc):\n    return np.int32(1)\n")
    kind = with_data(read_directly(tmp_path / "cache"))
    leaf = build(["capitals"], [], kind, folder, task_code=True)["tasks"]["capitals"]
    check_items(leaf)
    assert [right_answers(leaf, 0, doc) for doc in leaf.task_docs] == [[1], [1]]


def test_numbers_that_a_template_gives_are_warned_of(own, tmp_path, caplog):
    rows = [{"country": "1 + 1", "cities": ["2", "1", "0"], "capital": 0}] * 2
    leaf = build(["capitals"], [], with_data(read_directly(tmp_path / "cache")), own(rows=rows))["tasks"][
        "capitals"
    ]
    check_items(leaf)
    assert (
        "capitals: doc_to_target is a template that gives a number, and the choices of 2 items are"
        in caplog.text
    )
