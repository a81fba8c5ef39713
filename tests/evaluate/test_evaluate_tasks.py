"""Tasks: which items, lm-eval's definitions on local data, resuming, and the two output files."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from miniature_wheel import COUNTS

import evaluate_tasks as stage
from cpt.config_evaluate import ScoredTask, Scoring
from cpt.errors import UserError
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import DEFINITIONS, benchmark_items, choose_items, evaluate_task
from cpt.files import sha256_of
from cpt.stage import arguments

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_tasks.py"
STAGE_TASKS = ["mmlu", "piqa"]
SETTINGS = Scoring(items=4, seed=0, batch_tokens=256, precision="float32", add_bos_token=False)


class Oracle(Scorer):
    """Answers from a table {(end of context, continuation): log-likelihood}, -5 for anything else."""

    def __init__(self, loaded, table=None):
        super().__init__(copy.deepcopy(loaded[0]), loaded[1], 4, False)
        self.table = table or {}

    def loglikelihood(self, requests, disable_tqdm=True):
        return [
            (
                next(
                    (v for (end, c), v in self.table.items() if context.endswith(end) and c == continuation),
                    -5.0,
                ),
                False,
            )
            for context, continuation in (request.args for request in requests)
        ]


def test_a_subset_is_fixed_and_lies_inside_a_larger_one(benchmarks):
    pool = benchmark_items(benchmarks, "mmlu")
    whole = {"mmlu_anatomy": [0, 1, 2], "mmlu_virology": [0, 1]}
    assert len(pool) == 5 and choose_items(pool, None, 0) == choose_items(pool, 99, 0) == whole

    def flat(n, seed):
        return {(leaf, i) for leaf, rows in choose_items(pool, n, seed).items() for i in rows}

    for n in range(1, 5):
        assert len(flat(n, 0)) == n and flat(n, 0) < flat(n + 1, 0)
    assert len({frozenset(flat(2, seed)) for seed in range(20)}) > 3
    assert choose_items(benchmark_items(benchmarks, "arc_easy"), 2, 0).keys() == {"arc_easy"}


def test_a_folder_without_the_task_is_reported(benchmarks):
    with pytest.raises(UserError, match=r"items\.parquet: no items of triviaqa"):
        benchmark_items(benchmarks, "triviaqa")


@pytest.mark.parametrize("task", DEFINITIONS)
def test_every_task_runs_on_the_local_data(make_scorer, benchmarks, task):
    result, samples = evaluate_task(make_scorer(64), benchmarks, task, None, 0)
    assert (
        result["n"] == result["items_of_full"] == len(samples) == COUNTS[task.removesuffix("_continuation")]
    )
    assert samples == sorted(samples, key=lambda sample: (sample["task"], sample["item"]))
    assert result["metrics"]["acc"] == sum(sample["acc"] for sample in samples) / len(samples)
    normalised = task in ("arc_easy", "arc_challenge", "hellaswag", "piqa", "mmlu_continuation")
    assert ("acc_norm" in result["metrics"]) == normalised
    assert result["bits_per_byte"] == sum(sample["bits_per_byte"] for sample in samples) / len(samples)
    for sample in samples:
        scores, sizes = sample["loglikelihoods"], sample["choice_characters"]
        if task != "mmlu":  # ASCII texts
            bits = -scores[sample["gold"]] / math.log(2) / sizes[sample["gold"]]
            assert sample["bits_per_byte"] == pytest.approx(bits)
        assert sample["predicted"] == scores.index(max(scores))
        assert sample["acc"] == (sample["predicted"] == sample["gold"])
        if normalised:
            per_character = [score / size for score, size in zip(scores, sizes, strict=True)]
            best = per_character.index(max(per_character))
            assert sample["acc_norm"] == (best == sample["gold"])


def test_gold_answers_are_the_data_sets(loaded, benchmarks):
    expected = {
        "mmlu": [0, 1, 2, 0, 1],
        "mmlu_continuation": [0, 1, 2, 0, 1],
        "arc_easy": [0, 1, 2],
        "winogrande": [1, 0],
        "hellaswag": [0, 1, 2],
        "boolq": [1, 0],  # of no, yes
        "piqa": [0, 1],
    }
    for task, gold in expected.items():
        _, samples = evaluate_task(Oracle(loaded), benchmarks, task, None, 0)
        assert [sample["gold"] for sample in samples] == gold, task


def test_scores_are_pooled_over_items_and_normalised_by_characters(loaded, benchmarks):
    table = {
        (
            "Which anatomy 0?\nA. anatomy 0 w\nB. anatomy 0 x\nC. anatomy 0 y\nD. anatomy 0 z\nAnswer:",
            " A",
        ): -1.0,
        ("D. anatomy 1 z\nAnswer:", " C"): -1.0,
        ("D. virology 1 z\nAnswer:", " B"): -1.0,
    }
    result, _ = evaluate_task(Oracle(loaded, table), benchmarks, "mmlu", None, 0)
    # Anatomy: item 0 right, 1 and 2 wrong (ties go to A). Virology: 0 right by a tie, 1 right.
    assert result["metrics"]["acc"] == 3 / 5
    assert result["metrics"]["acc_stderr"] == pytest.approx((0.6 * 0.4 / 4) ** 0.5)
    assert result["per_subject"] == {
        "anatomy": {"n": 3, "acc": 1 / 3},
        "virology": {"n": 2, "acc": 1.0},
    }
    # PIQA, item 0: 12 against 26 characters; the long one is less likely, but likelier by character.
    table = {("Answer:", " turn the lid"): -4.0, ("Answer:", " turn the table upside down"): -6.0}
    _, (sample, _) = evaluate_task(Oracle(loaded, table), benchmarks, "piqa", None, 0)
    assert sample["choice_characters"] == [12, 26]
    assert (sample["acc"], sample["acc_norm"]) == (1, 0)


OWN = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{country}}:"
doc_to_choice: "{{cities}}"
doc_to_target: "{{capital}}"
metric_list: [{metric: acc}]
"""
CAPITALS = [
    {"country": "Italy", "cities": ["Rome", "Milan"], "capital": "Rome"},
    {"country": "Perù", "cities": ["Cusco", "Lima", "Piura"], "capital": "Lima"},
]


def test_a_users_own_task_is_scored(loaded, benchmarks, tmp_path):
    file = tmp_path / "capitals.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in CAPITALS))
    (tmp_path / "capitals.yaml").write_text(OWN.replace("FILE", str(file)))
    table = {("Italy:", " Rome"): -4.0, ("Perù:", " Piura"): -1.0}
    result, samples = evaluate_task(Oracle(loaded, table), benchmarks, "capitals", None, 0, tmp_path)
    assert (result["n"], result["items_of_full"], result["metrics"]["acc"]) == (2, 2, 0.5)
    assert [sample["gold"] for sample in samples] == [0, 1] and result["chance"] == (1 / 2 + 1 / 3) / 2
    assert samples[0]["bits_per_byte"] == pytest.approx(4 / math.log(2) / 4)
    assert (result["task"], result["lm_eval_task"], result["output_type"]) == ("capitals",) * 2 + (
        "multiple_choice",
    )
    (tmp_path / "capitals.yaml").write_text(OWN.replace("acc", "acc_norm").replace("FILE", str(file)))
    result, samples = evaluate_task(Oracle(loaded, table), benchmarks, "capitals", None, 0, tmp_path)
    assert list(result["metrics"]) == ["acc_norm", "acc_norm_stderr"]
    assert [sample["acc"] for sample in samples] == [1, 0]  # kept for tables of answers


@pytest.mark.parametrize(
    ("target", "answers", "gold"),
    [
        ("answer", ["8", "3"], [2, 0]),  # of ["3", "5", "8"]; a field alone is looked up
        ("answer", [2, 0], [2, 0]),
        ("{{answer}}", [2, 0], [2, 0]),  # lm-eval too reads a template's number as a place
        ("answer", [[1, 2], [0]], [1, 0]),
        ("{{answer}}", ["8", "3"], "lm-eval can't load it .* name their field alone"),
        (
            "{{answer}}",
            ["1", "8"],
            "item 1: doc_to_target gives 8, but it has 3 choices, counted from 0; fix the item",
        ),
        (
            "answer",
            ["7", "3"],
            "doc_to_target gives '7'; expected one of the 3 choices, or .*: fix the item or doc_to_target",
        ),
        ("answer", [["3", "5"], ["8"]], r"gives \['3', '5'\]; expected one of the 3 choices, or numbers"),
        ("answer", [-1, 0], "doc_to_target gives -1, but it has 3 choices"),
    ],
)
def test_the_right_answer_is_lm_evals(loaded, benchmarks, tmp_path, target, answers, gold):
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps({"country": "?", "answer": answer}) + "\n" for answer in answers))
    text = OWN.replace("FILE", str(file)).replace('"{{cities}}"', '["3", "5", "8"]')
    (tmp_path / "own.yaml").write_text(text.replace('"{{capital}}"', f'"{target}"'))
    if isinstance(gold, str):
        with pytest.raises(UserError, match=f"capitals.*{gold}"):
            evaluate_task(Oracle(loaded), benchmarks, "capitals", None, 0, tmp_path)
        return
    _, samples = evaluate_task(Oracle(loaded), benchmarks, "capitals", None, 0, tmp_path)
    assert [sample["gold"] for sample in samples] == gold


@pytest.fixture
def values(model_folder, benchmarks, manifest, device):
    """values(folder): the stage's parameters, with outputs in a folder."""

    def make(folder):
        parameters = {"model": model_folder, "benchmarks": benchmarks, "manifest": manifest}
        parameters |= {"columns": {task: ScoredTask(task=task) for task in STAGE_TASKS}}
        outputs = {
            "scores": [folder / f"{task}.json" for task in STAGE_TASKS],
            "samples": [folder / f"{task}.samples.jsonl" for task in STAGE_TASKS],
        }
        return parameters | outputs | {"settings": SETTINGS, "answers": folder / ".answers", "device": device}

    return make


def test_script_repeats_itself_to_the_byte_and_reuses_answers(tmp_path, values):
    one, two = tmp_path / "one", tmp_path / "two"
    command = [sys.executable, SCRIPT, *arguments(**values(one), log=tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    stage.evaluate_tasks(**values(two))
    written = [f"{task}{ending}" for task in STAGE_TASKS for ending in (".json", ".samples.jsonl")]
    assert sorted(path.name for path in one.iterdir()) == [".answers", *written]
    results = [json.loads((folder / "mmlu.json").read_text()) for folder in (one, two)]
    for result in results:
        assert result.pop("provenance")["seeds"] == {"items": 0}
    assert results[0] == results[1]
    lines = (one / "mmlu.samples.jsonl").read_bytes()
    assert lines == (two / "mmlu.samples.jsonl").read_bytes()
    assert len(lines.splitlines()) == result["n"] == 4
    assert result["settings"] == SETTINGS.model_dump()
    assert result["items_of_full"] == 5 and result["lm_eval"] and result["task_versions"]
    assert len(result["model_sha256"]) == len(result["benchmark_sha256"]) == 64
    # A second start, as after Snakemake deletes the outputs, asks the model nothing.
    answers = {path: path.read_bytes() for path in two.rglob(".answers/*")}
    stage.evaluate_tasks(**values(two))
    assert {path: path.read_bytes() for path in two.rglob(".answers/*")} == answers
    assert (two / "mmlu.samples.jsonl").read_bytes() == lines


def test_answers_of_another_way_of_scoring_are_removed(tmp_path, values):
    stage.evaluate_tasks(**values(tmp_path))
    former = {path.name for path in tmp_path.rglob(".answers/*")}
    settings = SETTINGS.model_copy(update={"batch_tokens": 128})
    stage.evaluate_tasks(**values(tmp_path) | {"settings": settings})
    now = {path.name for path in tmp_path.rglob(".answers/*")}
    assert len(now) == len(former) == len(STAGE_TASKS) and not now & former


def test_the_exam_and_items_of_a_columns_own(tmp_path, values):
    exam = tmp_path / "exam"
    exam.mkdir()
    file = exam / "exam.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in CAPITALS))
    (exam / "exam.yaml").write_text(OWN.replace("FILE", str(file)).replace("capitals", "exam"))
    names = ["exam", "some"]
    parameters = values(tmp_path) | {
        "columns": {"exam": ScoredTask(task="exam"), "some": ScoredTask(task="exam", items=1)},
        "scores": [tmp_path / f"{name}.json" for name in names],
        "samples": [tmp_path / f"{name}.samples.jsonl" for name in names],
        "exam": exam,
    }
    stage.evaluate_tasks(**parameters)
    all_items, some = (json.loads(path.read_text()) for path in parameters["scores"])
    assert (all_items["task"], all_items["n"], some["lm_eval_task"], some["n"]) == ("exam", 2, "exam", 1)
    assert all_items["benchmark_sha256"] == sha256_of(file)
    assert list(all_items["metrics"]) == ["acc", "acc_stderr"] and all_items["cut"] == {
        "items": 0,
        "tokens": 0,
    }


def test_out_of_gpu_memory_names_the_key_to_lower(tmp_path, values, monkeypatch):
    def too_large(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(stage, "evaluate_task", too_large)
    with pytest.raises(UserError, match=r"while scoring: evaluate\.batch_tokens is 256; set it to 128 or"):
        stage.evaluate_tasks(**values(tmp_path))
