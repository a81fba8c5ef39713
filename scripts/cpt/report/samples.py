"""The answers of a run to a benchmark's items, as arrays, and two runs' answers to the same items."""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpt.errors import UserError
from cpt.files import one_for_each
from cpt.report.statistics import Pairs

Item = tuple[str, int]
HASHES = ("doc_hash", "prompt_hash", "target_hash")


class Answers(NamedTuple):
    """One run's answers to one task, in the order of (leaf task, item).

    Attributes:
        path: the file that they were read from, for messages.
        keys: leaf task and number of each item; MMLU has a leaf task per subject.
        leaf: int64 [items], which of the sorted leaf tasks an item belongs to.
        right: bool [items] by metric; a metric that the task doesn't have is absent.
        gold: int64 [items], number of the right choice, from 0.
        predicted: int64 [items], number of the choice with the highest log-likelihood.
        choices: int64 [items], number of choices.
        longest: int64 [items], number of the choice with the most characters (the first of them); None if
            all choices of every item are equally long.
        hashes: of each item's document, prompt and target.
    """

    path: Path
    keys: list[Item]
    leaf: np.ndarray
    right: dict[str, np.ndarray]
    gold: np.ndarray
    predicted: np.ndarray
    choices: np.ndarray
    longest: np.ndarray | None
    hashes: list[tuple[str | None, ...]]


def read_all_answers(
    samples: Sequence[Path], runs: Iterable[str], tasks: Iterable[str]
) -> dict[tuple[str, str], Answers]:
    """The answers of each run to each task, from files in the order runs x tasks."""
    return {key: read_answers(path) for key, path in one_for_each(product(runs, tasks), samples)}


def read_answers(path: Path) -> Answers:
    """Read {task}.samples.jsonl. Raises UserError on a broken line, a repeated item or an empty file."""
    samples: dict[Item, dict[str, Any]] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            sample = _sample(line, f"{path}, line {number}")
            key = (sample["task"], sample["item"])
            if key in samples:
                raise UserError(f"{path}, line {number}: item {key} occurs twice; evaluate again")
            samples[key] = sample
    if not samples:
        raise UserError(f"{path}: no items; check evaluate.items and evaluate again")
    keys = sorted(samples)
    ordered = [samples[key] for key in keys]
    right = {}
    for metric in ("acc", "acc_norm"):
        if all(sample[metric] is not None for sample in ordered):
            right[metric] = np.array([sample[metric] == 1 for sample in ordered])
    lengths = [sample["choice_characters"] for sample in ordered]
    differ = any(len(set(of_item)) > 1 for of_item in lengths)
    return Answers(
        path,
        keys,
        np.unique([leaf for leaf, _ in keys], return_inverse=True)[1],
        right,
        np.array([sample["gold"] for sample in ordered]),
        np.array([sample["predicted"] for sample in ordered]),
        np.array([len(of_item) for of_item in lengths]),
        np.array([of_item.index(max(of_item)) for of_item in lengths]) if differ else None,
        [tuple(sample.get(name) for name in HASHES) for sample in ordered],
    )


def _sample(line: str, where: str) -> dict[str, Any]:
    needed = ("task", "item", "acc", "acc_norm", "gold", "predicted", "choice_characters")
    try:
        sample = json.loads(line)
        outcomes = [sample[name] for name in needed][2:4]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: expected an item with {', '.join(needed)} ({error!r}); "
            "delete the file and evaluate again"
        ) from None
    if outcomes[0] not in (0, 1) or outcomes[1] not in (0, 1, None):
        raise UserError(f"{where}: acc and acc_norm must be 0 or 1, but are {outcomes}; evaluate again")
    return sample


def check_metric(answers: Answers, task: str, metric: str) -> None:
    """Raises UserError if a task doesn't have the metric that Table 1 shows of it."""
    if metric not in answers.right:
        raise UserError(
            f"evaluate.tasks.{task}.metric: {metric} isn't measured for this task; choose one of "
            f"{', '.join(answers.right)}"
        )


def pair(reference: Answers, run: Answers, metric: str) -> list[Pairs]:
    """Count how two runs answered the same items, for each leaf task on its own.

    Raises UserError, which names the run's file, if items, prompts or targets differ.
    """
    if reference.keys != run.keys:
        ours, theirs = set(run.keys), set(reference.keys)
        raise UserError(
            f"{run.path}: its items aren't those of the run it is compared with ({len(ours - theirs)} only "
            f"here, {len(theirs - ours)} only there), so they can't be compared; evaluate both with the same "
            "evaluate.items and evaluate.seed"
        )
    if reference.hashes != run.hashes:
        differing = sum(a != b for a, b in zip(reference.hashes, run.hashes, strict=True))
        raise UserError(
            f"{run.path}: {differing} of its items have another text, prompt or target than in the run it is "
            "compared with; evaluate both with the same benchmarks and the same lm-eval"
        )
    # The 2 x 2 tables [leaf tasks, outcomes]: an outcome is both, gained, lost or neither, as in Pairs.
    outcome = 2 * ~run.right[metric] + ~reference.right[metric]
    leaf_tasks = run.leaf.max() + 1
    table = np.bincount(4 * run.leaf + outcome, minlength=4 * leaf_tasks).reshape(leaf_tasks, 4)
    return [Pairs(*map(int, row)) for row in table]
