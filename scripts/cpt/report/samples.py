"""The answers of a run to a benchmark's items, as arrays, and two runs' answers to the same items."""

import json
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cpt.data_sets import CLOZE
from cpt.errors import UserError
from cpt.files import one_for_each, read_json
from cpt.report.measures import Measure, Paired, Values, measures_of
from cpt.report.statistics import Pairs

Item = tuple[str, int]
HASHES = ("doc_hash", "prompt_hash", "target_hash")
CHOICE_KEYS = ("gold", "predicted", "choice_characters", "loglikelihoods", "bits_per_byte")


class Choices(NamedTuple):
    """Which choices of a multiple-choice task are right, and which a run takes.

    Attributes:
        gold: int64 [items], number of the right choice, from 0.
        predicted: int64 [items], number of the choice with the highest log-likelihood.
        number: int64 [items], number of choices.
        longest: int64 [items], number of the choice with the most characters (the first of them); None if
            all choices of every item are equally long.
        loglikelihoods: float64 [items, most choices], in nats; NaN beyond an item's own choices.
        bits_per_byte: float64 [items], of the right choice.
    """

    gold: np.ndarray
    predicted: np.ndarray
    number: np.ndarray
    longest: np.ndarray | None
    loglikelihoods: np.ndarray
    bits_per_byte: np.ndarray


class Answers(NamedTuple):
    """One run's answers to one task, in the order of (leaf task, item).

    Attributes:
        path: the file that they were read from, for messages.
        keys: leaf task and number of each item; MMLU has a leaf task per subject.
        leaf: int64 [items], which of the sorted leaf tasks an item belongs to.
        measures: the task's metrics, its first one first.
        choices: None unless the task is multiple choice.
        hashes: of each item's document, prompt and target.
    """

    path: Path
    keys: list[Item]
    leaf: np.ndarray
    measures: dict[str, Measure]
    choices: Choices | None
    hashes: list[tuple[str | None, ...]]

    def right(self, metric: str) -> np.ndarray | None:
        """Bool [items]: which are right; None for a metric of other values than right and wrong."""
        measure = self.measures[metric]
        return measure.values == 1 if measure.binary else None


def read_all_answers(
    samples: Sequence[Path], summaries: Sequence[Path], runs: Iterable[str], tasks: Iterable[str]
) -> dict[tuple[str, str], Answers]:
    """The answers of each run to each task, from files in the order runs x tasks."""
    files = zip(samples, summaries, strict=True)
    return {
        key: read_answers(path, read_json(summary))
        for key, (path, summary) in one_for_each(product(runs, tasks), list(files))
    }


def read_answers(path: Path, summary: dict[str, Any]) -> Answers:
    """Read {task}.samples.jsonl with the {task}.json beside it.

    Raises UserError on a broken line, a repeated item or an empty file.
    """
    choice = summary["output_type"] == "multiple_choice"
    needed = ("task", "item", *(CHOICE_KEYS if choice else ()))
    samples: dict[Item, dict[str, Any]] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            sample = _sample(line, needed, f"{path}, line {number}")
            key = (sample["task"], sample["item"])
            if key in samples:
                raise UserError(f"{path}, line {number}: item {key} occurs twice; evaluate again")
            samples[key] = sample
    if not samples:
        raise UserError(f"{path}: no items; check evaluate.items and evaluate again")
    keys = sorted(samples)
    ordered = [samples[key] for key in keys]
    try:
        measures = measures_of(ordered, summary)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected numbers of every item for {', '.join(summary['aggregations'])} ({error!r}); "
            "delete the file and evaluate again"
        ) from None
    return Answers(
        path,
        keys,
        np.unique([leaf for leaf, _ in keys], return_inverse=True)[1],
        measures,
        _choices(ordered) if choice else None,
        [tuple(sample.get(name) for name in HASHES) for sample in ordered],
    )


def _sample(line: str, needed: Sequence[str], where: str) -> dict[str, Any]:
    try:
        sample = json.loads(line)
        for name in needed:
            sample[name]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{where}: expected an item with {', '.join(needed)} ({error!r}); "
            "delete the file and evaluate again"
        ) from None
    return sample


def _choices(samples: list[dict[str, Any]]) -> Choices:
    lengths = [sample["choice_characters"] for sample in samples]
    differ = any(len(set(item_lengths)) > 1 for item_lengths in lengths)
    number = np.array([len(item_lengths) for item_lengths in lengths])
    loglikelihoods = np.full((len(samples), number.max()), np.nan)
    for row, sample in zip(loglikelihoods, samples, strict=True):
        row[: len(sample["loglikelihoods"])] = sample["loglikelihoods"]
    return Choices(
        np.array([sample["gold"] for sample in samples]),
        np.array([sample["predicted"] for sample in samples]),
        number,
        np.array([item_lengths.index(max(item_lengths)) for item_lengths in lengths]) if differ else None,
        loglikelihoods,
        np.array([sample["bits_per_byte"] for sample in samples], float),
    )


def chosen_metrics(
    metrics: dict[str, str | None], runs: Iterable[str], answers: dict[tuple[str, str], Answers]
) -> dict[str, str]:
    """The metric of each task that Table 1 shows: the config's, or the task's first one.

    Raises UserError if a task doesn't have it in some run.
    """
    runs = list(runs)
    chosen = {task: metric or next(iter(answers[runs[0], task].measures)) for task, metric in metrics.items()}
    for run, (task, metric) in product(runs, chosen.items()):
        check_metric(answers[run, task], task, metric)
    return chosen


def averaged_tasks(
    metrics: dict[str, str], table_tasks: list[str], answers: dict[tuple[str, str], Answers]
) -> list[str]:
    """The columns in Table 1's average: their metric is like an accuracy in every run, and no column before
    them asks the same questions."""
    runs = list(dict.fromkeys(run for run, _ in answers))
    shares = [
        task
        for task, metric in metrics.items()
        if task in table_tasks and all(answers[run, task].measures[metric].share for run in runs)
    ]
    return distinct({task: answers[runs[0], task] for task in shares})


def distinct(answers: dict[str, Answers]) -> list[str]:
    """The tasks that share no question with a task before them (with other worked examples, or as cloze).
    Their errors are independent."""
    seen: set[Item] = set()
    tasks = []
    for task, task_answers in answers.items():
        questions = {(leaf.removesuffix(CLOZE), item) for leaf, item in task_answers.keys}
        if not questions & seen:
            tasks.append(task)
        seen |= questions
    return tasks


def check_metric(answers: Answers, task: str, metric: str) -> None:
    """Raise UserError if a task doesn't have the metric that Table 1 shows."""
    if metric not in answers.measures:
        raise UserError(
            f"evaluate.tasks.{task}.metric: {metric} isn't measured for this task; choose one of "
            f"{', '.join(answers.measures)}"
        )


def require_same_items(reference: Answers, run: Answers) -> None:
    """Raise UserError, which names the run's file, if items, prompts or targets differ."""
    if reference.keys != run.keys:
        ours, theirs = set(run.keys), set(reference.keys)
        raise UserError(
            f"{run.path}: its items aren't those of the run it is compared with ({len(ours - theirs)} only "
            f"here, {len(theirs - ours)} only there); evaluate both with the same evaluate.items and "
            "evaluate.seed"
        )
    if reference.hashes != run.hashes:
        differing = sum(a != b for a, b in zip(reference.hashes, run.hashes, strict=True))
        raise UserError(
            f"{run.path}: {differing} of its items have another text, prompt or target than in the run it is "
            "compared with; evaluate both with the same benchmarks and the same lm-eval"
        )


def pair(reference: Answers, run: Answers, metric: str) -> Paired | None:
    """How two runs answered the same items: counts for each leaf task if answers are right or wrong, else the
    items' values; None for a metric without values per item.

    Raises UserError, which names the run's file, if items, prompts or targets differ.
    """
    require_same_items(reference, run)
    ours, theirs = run.measures[metric], reference.measures[metric]
    if ours.values is None:
        return None
    if not (ours.binary and theirs.binary):
        return Values(ours.values, theirs.values, ours.weights, run.leaf, ours.aggregation)
    # The 2 x 2 tables [leaf tasks, outcomes]: an outcome is both, gained, lost or neither, as in Pairs.
    outcome = 2 * (ours.values != 1) + (theirs.values != 1)
    leaf_tasks = run.leaf.max() + 1
    table = np.bincount(4 * run.leaf + outcome, minlength=4 * leaf_tasks).reshape(leaf_tasks, 4)
    return [Pairs(*map(int, row)) for row in table]
