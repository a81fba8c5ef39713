"""Scores models on lm-eval's own task definitions: chooses the items, loads the data, keeps the results."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from lm_eval.api.model import LM

from cpt.config_evaluate import EXAM_TASKS, ScoredTask, benchmarks_hold
from cpt.data_sets import CLOZE, DATA_SETS
from cpt.errors import UserError
from cpt.evaluate.task_data import quiet, read_directly, saved_in
from cpt.evaluate.task_definitions import FEWSHOT_SEED, LoadedTask, build, folders_of, naming, with_data
from cpt.evaluate.task_items import right_answers
from cpt.evaluate.task_results import Sample, ask, samples_of, scores_of
from cpt.files import read_json, sha256_of, write_text

DEFINITIONS = {  # folders of lm-eval's definitions
    "mmlu": "mmlu/default",
    "mmlu_continuation": "mmlu/continuation",
    "arc_challenge": "arc",
    "arc_easy": "arc",
    "winogrande": "winogrande",
    "hellaswag": "hellaswag",
    "boolq": "super_glue/boolq",
    "piqa": "piqa",
}


def choose_items(pool: list[tuple[str, int]], items: int | None, seed: int) -> dict[str, list[int]]:
    """Returns a task's items to score as {leaf task: sorted item numbers}; `pool`: all (leaf task, number).

    A subset is drawn from all items of the task (for mmlu, of all subjects): those with the smallest SHA-256
    of "seed leaf item". So it is the same for every model and on every machine, and a smaller subset is part
    of a larger one. Both forms of MMLU are scored on the same items.
    """

    def place(pair: tuple[str, int]) -> bytes:
        return hashlib.sha256(f"{seed} {pair[0].removesuffix(CLOZE)} {pair[1]}".encode()).digest()

    items_by_leaf: dict[str, list[int]] = {}
    for leaf, item in sorted(sorted(pool, key=place)[:items]):
        items_by_leaf.setdefault(leaf, []).append(item)
    return items_by_leaf


def benchmark_items(benchmarks: Path, task: str) -> list[tuple[str, int]]:
    """Returns all items of one of the DEFINITIONS in a folder of fetch_benchmarks, as (leaf task, item).

    Raises UserError if the folder has none.
    """
    data, ending = task.removesuffix(CLOZE), CLOZE if task.endswith(CLOZE) else ""
    table = pq.read_table(benchmarks / "items.parquet", columns=["task", "item"])
    pairs = zip(table["task"].to_pylist(), table["item"].to_pylist(), strict=True)
    pool = [(leaf + ending, item) for leaf, item in pairs if leaf == data or leaf.startswith(f"{data}_")]
    if not pool:
        raise UserError(f"{benchmarks / 'items.parquet'}: no items of {task}; fetch the benchmarks again")
    return pool


def load_benchmark(benchmarks: Path, task: str, leaves: Iterable[str], cache: Path) -> dict[str, LoadedTask]:
    """Returns lm-eval's task objects for `leaves` of one of the DEFINITIONS, on the local data set.

    Loads only these leaf tasks. `cache` is a temporary folder.
    """
    place = (benchmarks / DATA_SETS[task.removesuffix(CLOZE)].repository).resolve()
    kind = with_data(read_directly(cache, str(place)))
    return build(list(leaves), [DEFINITIONS[task]], kind)["tasks"]


def load_further(
    task: str, fetched: Path | None, include_path: Path | None, task_code: bool, cache: Path
) -> dict[str, Any]:
    """Returns lm-eval's leaf tasks and groups of any name, on the data of fetch_task; without `fetched`, on
    the files that the task names.

    Raises UserError if there is no such task, or it can't be loaded.
    """
    if fetched:
        folders = read_json(fetched / f"{task}.json")["folders"]
        kind = with_data(saved_in(fetched / task))
    else:
        folders, kind = folders_of(task, include_path), with_data(read_directly(cache))
    return build([task], folders, kind, include_path, task_code)


def shots_of(leaf: LoadedTask, column: str, shots: int | None) -> int:
    """Returns the number of examples for a leaf task: as its column asks for, or as its definition says.

    Raises UserError if there are fewer examples, or if lm-eval wouldn't use them.
    """
    key = f"evaluate.tasks.{column}.shots"
    if shots and leaf.config.num_fewshot == 0:
        raise UserError(
            f"{key}: {leaf.config.task} is defined with num_fewshot: 0, which lm-eval never overrides; "
            "remove the key"
        )
    examples_needed = (leaf.config.num_fewshot or 0) if shots is None else shots
    if not examples_needed:
        return 0
    config, examples = leaf.config, leaf.fewshot_cfg
    # From the scored split lm-eval draws one example more, because the question itself may be among them.
    there = len(leaf.sampler.df) - (examples.split == config.test_split)
    if examples_needed > there:
        raise UserError(
            f"{key}: {config.task} has {there} examples, but {examples_needed} are asked for; lower it"
        )
    source = examples.split or examples.samples or config.training_split or config.validation_split
    if config.test_split and not source:
        logging.warning(
            f"{key}: {config.task} draws its examples from the items that are scored, as lm-eval does, so an "
            "item may be among its own; name a fewshot_split in a YAML file of your own"
        )
    return examples_needed


def set_shots(leaf: LoadedTask, shots: int) -> None:
    """Give a leaf task its number of examples, drawn as lm-eval draws them."""
    leaf.set_config(key="num_fewshot", value=shots)
    leaf.set_fewshot_seed(FEWSHOT_SEED)


def require_room(model: LM, leaf: LoadedTask, column: str) -> None:
    """Raise UserError if the model's context can't hold a task's examples with the first item's question."""
    shots, longest = leaf.config.num_fewshot, getattr(model, "max_length", None)
    if not shots or longest is None:
        return

    def tokens(count: int) -> int:
        context = leaf.fewshot_context(leaf.task_docs[0], count)
        return len(model.tok_encode(context if isinstance(context, str) else context[0]))

    full, bare = tokens(shots), tokens(0)
    leaf.set_fewshot_seed(FEWSHOT_SEED)
    if full > longest >= bare:
        raise UserError(
            f"evaluate.tasks.{column}.shots: {shots} examples and the first question of {leaf.config.task} "
            f"have {full} tokens, but the model's context {longest}; set it to "
            f"{int(shots * (longest - bare) / (full - bare))} or less"
        )


def evaluate_task(
    model: LM,
    benchmarks: Path,
    task: str,
    items: int | None,
    seed: int,
    include_path: Path | None = None,
    *,
    column: str | None = None,
    shots: int | None = None,
    fetched: Path | None = None,
    task_code: bool = False,
) -> tuple[dict[str, Any], list[Sample]]:
    """Score `model` on a task; return the result and one sample per item, sorted by (task, item).

    Args:
        model: lm-eval's interface to a model.
        benchmarks: folder of fetch_benchmarks.
        task: name of lm-eval's task or group, or of one in `include_path`.
        items: size of the subset of items, drawn by `seed`; None: all.
        seed: of the subset.
        include_path: folder of YAML files that define further tasks.
        column: the config's column, for messages; None: the task's name.
        shots: worked examples before each question; None: as the task's definition says.
        fetched: folder with the data of fetch_task; None: reads the files that the task names.
        task_code: whether YAML files in `include_path` may run code.

    Raises:
        UserError: something can't be loaded or scored; it names the column, or leaf task and item.
    """
    column, group = column or task, None
    quiet()
    with naming(column), tempfile.TemporaryDirectory(prefix="evaluate-") as cache:
        if benchmarks_hold(task, shots):
            pool = benchmark_items(benchmarks, task)
            items_by_leaf = choose_items(pool, items, seed)
            leaves = load_benchmark(benchmarks, task, items_by_leaf, Path(cache))
        else:
            built = load_further(task, fetched, include_path, task_code, Path(cache))
            leaves, group = built["tasks"], built["groups"].get(task)
            pool = [(name, item) for name, leaf in leaves.items() for item in range(len(leaf.task_docs))]
            items_by_leaf = choose_items(pool, items, seed)
            leaves = {name: leaf for name, leaf in leaves.items() if name in items_by_leaf}
        for name, leaf in leaves.items():  # before anything is scored
            set_shots(leaf, shots_of(leaf, column, shots))
            require_room(model, leaf, column)
            leaf.choose(items_by_leaf[name])
            require_answers(leaf)
        results = ask(model, leaves)
    samples = [
        sample
        for name, leaf in leaves.items()
        for sample in samples_of(model, leaf, results["samples"][name])
    ]
    samples.sort(key=lambda sample: (sample["task"], sample["item"]))
    result = {"task": column, "lm_eval_task": task, **_described(leaves), "items_of_full": len(pool)}
    result |= scores_of(leaves, results, samples, group)
    if task.removesuffix(CLOZE) == "mmlu":
        result["per_subject"] = _per_subject(samples)
    return result, samples


def require_answers(leaf: LoadedTask) -> None:
    """Raise UserError, which names the item, for a right answer that can't be compared."""
    if leaf.OUTPUT_TYPE == "multiple_choice" and not callable(leaf.config.process_results):
        for item, doc in leaf.doc_iterator():
            right_answers(leaf, item, doc)


def _per_subject(samples: list[Sample]) -> dict[str, dict[str, Any]]:
    """Returns the number of items and the accuracy of each of MMLU's subjects."""
    groups: dict[str, list[float]] = {}
    for sample in samples:
        groups.setdefault(sample["task"].removeprefix("mmlu_").removesuffix(CLOZE), []).append(sample["acc"])
    return {leaf: {"n": len(scores), "acc": sum(scores) / len(scores)} for leaf, scores in groups.items()}


def _described(leaves: dict[str, LoadedTask]) -> dict[str, Any]:
    """Returns type of output and number of examples, which is null if the leaf tasks differ in it."""
    kinds = {leaf.OUTPUT_TYPE for leaf in leaves.values()}
    shots = {leaf.config.num_fewshot for leaf in leaves.values()}
    return {"output_type": kinds.pop(), "shots": shots.pop() if len(shots) == 1 else None}


def write_samples(path: Path, samples: list[Sample]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(sample) + "\n" for sample in samples))


def content_of(asked: ScoredTask, manifest: Path, fetched: Path | None, exam: Path | None) -> str | None:
    """Returns the SHA-256 of the content from which a column's items come."""
    if exam and asked.task in EXAM_TASKS:
        return sha256_of(exam / "exam.jsonl")
    if benchmarks_hold(asked.task, asked.shots):
        return read_json(manifest)["tasks"].get(asked.task.removesuffix(CLOZE), {}).get("content_sha256")
    return read_json(fetched / f"{asked.task}.json")["content_sha256"]
