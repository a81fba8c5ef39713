"""lm-eval's own task definitions on local copies of their data sets, zero-shot."""

import hashlib
import json
import logging
import math
import tempfile
from collections.abc import Iterable
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

from cpt.errors import UserError

DEFINITIONS = {  # folder of lm-eval's definition, and the data set's repository
    "mmlu": ("mmlu/default", "cais/mmlu"),
    "arc_challenge": ("arc", "allenai/ai2_arc"),
    "arc_easy": ("arc", "allenai/ai2_arc"),
    "winogrande": ("winogrande", "allenai/winogrande"),
    "hellaswag": ("hellaswag", "Rowan/hellaswag"),
    "boolq": ("super_glue/boolq", "aps/super_glue"),
    "piqa": ("piqa", "baber/piqa"),
}
METRICS = ("acc", "acc_norm")


def choose_items(
    benchmarks: Path, task: str, items: int | None, seed: int
) -> tuple[dict[str, list[int]], int]:
    """The items to score, as {leaf task: sorted item numbers}, and how many the task has in all.

    A subset is drawn over all items of the task (of all subjects for mmlu): those with the smallest
    SHA-256 of "seed leaf item". So it is the same for every model and on every machine, and a smaller
    subset lies inside a larger one.

    Raises UserError if the benchmarks folder doesn't have the task.
    """
    table = pq.read_table(benchmarks / "items.parquet", columns=["task", "item"])
    pairs = zip(table["task"].to_pylist(), table["item"].to_pylist(), strict=True)
    pool = [(leaf, item) for leaf, item in pairs if leaf == task or leaf.startswith(f"{task}_")]
    if not pool:
        raise UserError(f"{benchmarks / 'items.parquet'}: no items of {task}; fetch the benchmarks again")
    chosen = pool
    if items is not None and items < len(pool):
        chosen = sorted(
            pool, key=lambda pair: hashlib.sha256(f"{seed} {pair[0]} {pair[1]}".encode()).digest()
        )
        chosen = chosen[:items]
    by_leaf: dict[str, list[int]] = {}
    for leaf, item in sorted(chosen):
        by_leaf.setdefault(leaf, []).append(item)
    return by_leaf, len(pool)


def load_tasks(benchmarks: Path, task: str, leaves: Iterable[str], cache: Path) -> list[ConfigurableTask]:
    """lm-eval's task objects for `leaves`, reading the local data set.

    Only the folder that defines `task` is indexed (all of lm-eval's take ten seconds and more), and only
    the wanted subjects are loaded. `cache` is a temporary folder.
    """
    folder, repository = DEFINITIONS[task]
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
    defined = Path(lm_eval.tasks.__file__).parent / folder
    loaded = TaskManager(include_defaults=False, include_path=[defined, own]).load(["selected"])
    return list(loaded["tasks"].values())


def evaluate_task(
    model: LM, benchmarks: Path, task: str, items: int | None, seed: int, answers: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Score `model` on a task; return the result and one sample per item, sorted by (task, item).

    `answers` is the start of the name of a file in which answers are kept as they come: a killed
    evaluation that starts again asks the model only for the rest. It must name one model and one way of
    scoring.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    chosen, full = choose_items(benchmarks, task, items, seed)
    with tempfile.TemporaryDirectory(prefix="evaluate-") as cache:
        leaves = load_tasks(benchmarks, task, chosen, Path(cache))
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=leaves,
            task_manager=TaskManager(include_defaults=False),
            samples=chosen,
            bootstrap_iters=0,
            use_cache=str(answers),
        )
    samples = [_sample(leaf, sample) for leaf in leaves for sample in results["samples"][leaf.config.task]]
    samples.sort(key=lambda sample: (sample["task"], sample["item"]))
    result = {
        "task": task,
        "n": len(samples),
        "items_of_full": full,
        "metrics": _metrics(samples),
        "lm_eval": metadata.version("lm_eval"),
        "task_versions": sorted({str(results["versions"][leaf]) for leaf in chosen}),
    }
    if task == "mmlu":
        result["per_subject"] = {
            leaf.removeprefix("mmlu_"): {
                "n": len(chosen[leaf]),
                "acc": _mean([sample["acc"] for sample in samples if sample["task"] == leaf]),
            }
            for leaf in sorted(chosen)
        }
    return result, samples


def _sample(leaf: ConfigurableTask, sample: dict[str, Any]) -> dict[str, Any]:
    """What is kept of lm-eval's record of one item."""
    scores = [score for score, _ in sample["filtered_resps"]]
    # Where the answers differ in their context (WinoGrande), lm-eval keeps the gold number in doc_to_text.
    gold = int(leaf.doc_to_text(sample["doc"]) if leaf.multiple_input else sample["target"])
    predicted = max(range(len(scores)), key=scores.__getitem__)
    if (predicted == gold) != bool(sample["acc"]):
        raise RuntimeError(f"{leaf.config.task}, item {sample['doc_id']}: gold answer and accuracy disagree")
    delimiter = len(leaf.config.target_delimiter)
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
        "choice_characters": [len(continuation) - delimiter for _, continuation in sample["arguments"]],
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
    """Write one JSON object per line."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(sample) + "\n" for sample in samples)
