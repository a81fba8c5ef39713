"""lm-eval's own task definitions on local copies of their data sets, and a user's own tasks, zero-shot."""

import hashlib
import json
import logging
import math
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import lm_eval.tasks
import pyarrow.parquet as pq
import yaml
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from cpt.data_sets import CLOZE, DATA_SETS
from cpt.errors import UserError
from cpt.files import write_text

DEFINITIONS = {  # folder of lm-eval's definition
    "mmlu": "mmlu/default",
    "mmlu_continuation": "mmlu/continuation",
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "winogrande": "winogrande",
    "hellaswag": "hellaswag",
    "boolq": "super_glue/boolq",
    "piqa": "piqa",
}
METRICS = ("acc", "acc_norm")
NUMBERS = (
    "if answers are numbers, name their field alone (doc_to_target: answer), as lm-eval takes the number "
    "that a template gives for a place among the choices"
)


def choose_items(pool: list[tuple[str, int]], items: int | None, seed: int) -> dict[str, list[int]]:
    """The items of a task to score, out of all (leaf task, item number), as {leaf task: sorted item numbers}.

    A subset is drawn over all items of the task (of all subjects for mmlu): those with the smallest
    SHA-256 of "seed leaf item". So it is the same for every model and on every machine, and a smaller
    subset lies inside a larger one.
    """
    drawn = sorted(pool, key=lambda pair: hashlib.sha256(f"{seed} {pair[0]} {pair[1]}".encode()).digest())
    by_leaf: dict[str, list[int]] = {}
    for leaf, item in sorted(drawn[:items]):
        by_leaf.setdefault(leaf, []).append(item)
    return by_leaf


def benchmark_items(benchmarks: Path, task: str) -> list[tuple[str, int]]:
    """All items of one of the DEFINITIONS in a folder of fetch_benchmarks, as (leaf of the data, item).

    Raises UserError if the folder doesn't have them.
    """
    data = task.removesuffix(CLOZE)
    table = pq.read_table(benchmarks / "items.parquet", columns=["task", "item"])
    pairs = zip(table["task"].to_pylist(), table["item"].to_pylist(), strict=True)
    pool = [(leaf, item) for leaf, item in pairs if leaf == data or leaf.startswith(f"{data}_")]
    if not pool:
        raise UserError(f"{benchmarks / 'items.parquet'}: no items of {task}; fetch the benchmarks again")
    return pool


def load_benchmark(benchmarks: Path, task: str, leaves: list[str], cache: Path) -> list[ConfigurableTask]:
    """lm-eval's task objects for `leaves`, reading the local data set.

    Only the folder that defines `task` is indexed (all of lm-eval's take ten seconds and more), and only
    the wanted subjects are loaded. `cache` is a temporary folder.
    """
    repository = DATA_SETS[task.removesuffix(CLOZE)].repository
    group = {
        "group": "selected",
        "task": [
            {
                "task": leaf,
                "dataset_path": str((benchmarks / repository).resolve()),
                "dataset_kwargs": {"cache_dir": str(cache / "data")},
                "num_fewshot": 0,
            }
            for leaf in leaves
        ],
    }
    own = cache / "tasks"
    own.mkdir()
    (own / "selected.yaml").write_text(yaml.safe_dump(group))
    defined = Path(lm_eval.tasks.__file__).parent / DEFINITIONS[task]
    loaded = TaskManager(include_defaults=False, include_path=[defined, own]).load(["selected"])
    return list(loaded["tasks"].values())


def load_own(folder: Path, task: str) -> list[ConfigurableTask]:
    """The task objects of a user's own task or group of tasks, defined by lm-eval's YAML files in `folder`.

    Raises UserError if it isn't there, or asks for what isn't done: another output type than the comparison
    of given answers, shots, other metrics.
    """
    manager = TaskManager(include_defaults=False, include_path=[folder])
    if task not in manager.all_tasks:
        raise UserError(
            f"evaluate.tasks.{task}: neither one of {', '.join(DEFINITIONS)} nor defined in {folder} "
            f"(evaluate.include_path), which has {', '.join(manager.all_tasks) or 'no tasks'}; fix its name"
        )
    try:
        leaves = list(manager.load([task])["tasks"].values())
    except Exception as error:  # whatever lm-eval, its templates or its readers of data raise
        # lm-eval looks up the first item's right answer.
        hint = f"; {NUMBERS}" if isinstance(error, IndexError) else ""
        raise UserError(
            f"evaluate.tasks.{task}: lm-eval can't load it ({type(error).__name__}: {error}); fix its YAML "
            f"file in {folder}, or its data{hint}"
        ) from None
    for leaf in leaves:
        if leaf.OUTPUT_TYPE != "multiple_choice":
            raise UserError(
                f"evaluate.tasks.{task}: {leaf.config.task} has output_type {leaf.OUTPUT_TYPE}; only "
                "multiple_choice can be scored, so leave the task out"
            )
        if leaf.config.num_fewshot:
            raise UserError(
                f"evaluate.tasks.{task}: {leaf.config.task} has num_fewshot: {leaf.config.num_fewshot}; only "
                "zero-shot is scored, so set it to 0"
            )
        metrics = [str(metric["metric"]) for metric in leaf.config.metric_list or []]
        if others := [metric for metric in metrics if metric not in METRICS]:
            raise UserError(
                f"evaluate.tasks.{task}: {leaf.config.task} has the metric {others[0]}; only "
                f"{' and '.join(METRICS)} are kept, so remove it"
            )
        if metrics and "acc" not in metrics:
            raise UserError(
                f"{leaf.config.task}: its metric_list must have acc, which every score is made of; add it"
            )
        leaf.set_config(key="num_fewshot", value=0)
    return leaves


def right_answers(leaf: ConfigurableTask, item: int, doc: dict[str, Any]) -> list[int]:
    """Numbers of an item's right answers: lm-eval's own target, looked up among the choices first.

    Raises UserError, which names task and item, for a target that lm-eval would count as wrong whatever is
    answered, or can't compare.
    """
    target, choices = leaf.doc_to_target(doc), leaf.doc_to_choice(doc)
    if leaf.multiple_input:  # where answers differ in their context (WinoGrande), it is in doc_to_text
        target = leaf.doc_to_text(doc)
    where = f"{leaf.config.task}, item {item}: doc_to_target gives {target!r}"
    if isinstance(target, str) and target in choices:
        return [choices.index(target)]
    numbers = target if isinstance(target, list) else [target]
    if not numbers or not all(isinstance(number, int) for number in numbers):
        known = f"one of the {len(choices)} choices, or numbers of choices, counted from 0"
        raise UserError(f"{where}; expected {known}: fix the item or doc_to_target")
    if not all(0 <= number < len(choices) for number in numbers):
        raise UserError(
            f"{where}, but it has {len(choices)} choices, counted from 0; fix the item or doc_to_target: "
            f"{NUMBERS}"
        )
    return numbers


def evaluate_task(
    model: LM, benchmarks: Path, task: str, items: int | None, seed: int, include_path: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Score `model` on a task; return the result and one sample per item, sorted by (task, item).

    A task that isn't one of DEFINITIONS is a user's own, defined in `include_path`.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="evaluate-") as cache:
        if task in DEFINITIONS:
            pool = benchmark_items(benchmarks, task)
            ending = CLOZE if task.endswith(CLOZE) else ""
            # Both forms of MMLU are scored on the same items.
            chosen = {leaf + ending: rows for leaf, rows in choose_items(pool, items, seed).items()}
            leaves = load_benchmark(benchmarks, task, list(chosen), Path(cache))
        else:
            if include_path is None:
                raise UserError(
                    f"evaluate.tasks.{task}: not one of {', '.join(DEFINITIONS)}; name the folder that "
                    "defines it in evaluate.include_path"
                )
            leaves = load_own(include_path, task)
            pool = [(leaf.config.task, item) for leaf in leaves for item in range(len(leaf.eval_docs))]
            chosen = choose_items(pool, items, seed)
            leaves = [leaf for leaf in leaves if leaf.config.task in chosen]
            for leaf in leaves:  # before anything is scored
                documents = leaf.eval_docs
                for item in chosen[leaf.config.task]:
                    right_answers(leaf, item, documents[item])
        # Not simple_evaluate, which describes the machine at length for seconds.
        results = lm_eval.evaluate(
            lm=model,
            task_dict=TaskManager(include_defaults=False).load(leaves),
            samples=chosen,
            bootstrap_iters=0,
        )
    samples = [_sample(leaf, sample) for leaf in leaves for sample in results["samples"][leaf.config.task]]
    samples.sort(key=lambda sample: (sample["task"], sample["item"]))
    result = {
        "task": task,
        "n": len(samples),
        "items_of_full": len(pool),
        "metrics": _metrics(samples),
        "bits_per_byte": _mean([sample["bits_per_byte"] for sample in samples]),
        "chance": _mean([1 / len(sample["loglikelihoods"]) for sample in samples]),
        "lm_eval": metadata.version("lm_eval"),
        "task_versions": sorted({str(results["versions"][leaf]) for leaf in chosen}),
    }
    if task.removesuffix(CLOZE) == "mmlu":
        result["per_subject"] = {
            leaf.removeprefix("mmlu_").removesuffix(CLOZE): {
                "n": len(chosen[leaf]),
                "acc": _mean([sample["acc"] for sample in samples if sample["task"] == leaf]),
            }
            for leaf in sorted(chosen)
        }
    return result, samples


def _sample(leaf: ConfigurableTask, sample: dict[str, Any]) -> dict[str, Any]:
    """What is kept of lm-eval's record of one item.

    `bits_per_byte` is -log2 p of the correct answer given the question, over the answer's UTF-8 bytes
    without the delimiter before it. It moves long before accuracy does (OLMo's in-loop evaluation).
    """
    scores = [score for score, _ in sample["filtered_resps"]]
    right = right_answers(leaf, sample["doc_id"], sample["doc"])
    predicted = max(range(len(scores)), key=scores.__getitem__)
    if (predicted in right) != bool(sample["acc"]):
        raise RuntimeError(f"{leaf.config.task}, item {sample['doc_id']}: gold answer and accuracy disagree")
    gold = predicted if predicted in right else right[0]  # of several right ones
    delimiter = len(leaf.config.target_delimiter)
    answers = [continuation[delimiter:] for _, continuation in sample["arguments"]]
    size = max(1, len(answers[gold].encode()))
    return {
        "task": leaf.config.task,
        "item": sample["doc_id"],
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "target_hash": sample["target_hash"],
        "gold": gold,
        "predicted": predicted,
        "acc": int(sample["acc"]),
        "acc_norm": int(sample["acc_norm"]) if "acc_norm" in sample else None,
        "loglikelihoods": scores,
        "choice_characters": [len(answer) for answer in answers],
        "bits_per_byte": -scores[gold] / (size * math.log(2)),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _metrics(samples: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean and standard error over all items (for mmlu as well: lm-eval's weight_by_size).

    The standard error is lm-eval's: sample standard deviation over the root of n.
    """
    found: dict[str, float | None] = {}
    for metric in METRICS:
        values = [sample[metric] for sample in samples if sample[metric] is not None]
        if not values:
            continue
        mean = found[metric] = _mean(values)
        n = len(values)
        found[f"{metric}_stderr"] = math.sqrt(mean * (1 - mean) / (n - 1)) if n > 1 else None
    return found


def write_samples(path: Path, samples: list[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(sample) + "\n" for sample in samples))
