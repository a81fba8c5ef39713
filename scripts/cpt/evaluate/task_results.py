"""The kept results of lm-eval: a sample per item, and a task's scores."""

import contextlib
import io
import math
import os
from collections import Counter
from importlib import metadata
from typing import Any

import lm_eval
import numpy as np
from lm_eval.api.group import Group
from lm_eval.api.metrics import mean, mean_stderr, pooled_sample_stderr, unweighted_mean_stderr
from lm_eval.api.model import LM
from lm_eval.api.registry import AGGREGATION_REGISTRY

from cpt.data_sets import BY_TASK
from cpt.evaluate.task_definitions import LoadedTask
from cpt.evaluate.task_items import right_answers

NAMES = {np.mean: "mean"} | {function: name for name, function in AGGREGATION_REGISTRY.items()}
RESAMPLES = 1_000  # for the standard error of a metric that is no mean over items
Sample = dict[str, Any]


def ask(model: LM, leaves: dict[str, LoadedTask]) -> dict[str, Any]:
    """Returns lm-eval's results of a model on leaf tasks."""
    os.environ["DISABLE_MULTIPROC"] = "1"  # resample in this process
    with contextlib.redirect_stdout(io.StringIO()):  # lm-eval says that it resamples
        # Not simple_evaluate, which describes the machine at length for seconds.
        return lm_eval.evaluate(
            lm=model, task_dict={"tasks": leaves, "groups": {}}, bootstrap_iters=RESAMPLES
        )


def samples_of(model: LM, leaf: LoadedTask, logged: list[dict[str, Any]]) -> list[Sample]:
    """Returns a sample for each item of a leaf task, from lm-eval's records, one per item and filter."""
    records: dict[int, list[dict[str, Any]]] = {}
    for record in logged:
        records.setdefault(record["doc_id"], []).append(record)
    return [_sample(model, leaf, item, same) for item, same in records.items()]


def _sample(model: LM, leaf: LoadedTask, item: int, records: list[dict[str, Any]]) -> Sample:
    first, name = records[0], leaf.config.task
    sample = {"task": name, "item": item}
    sample |= {key: first[key] for key in ("doc_hash", "prompt_hash", "target_hash")}
    sample["cut"] = getattr(model, "cuts", {}).get((name, item), 0)
    for record in records:
        for metric in record["metrics"]:
            key = f"{metric},{record['filter']}" if len(records) > 1 else metric
            sample[key] = _plain(record[metric])
    if leaf.OUTPUT_TYPE == "multiple_choice":
        sample |= _choices(leaf, item, first)
    elif leaf.OUTPUT_TYPE == "generate_until":
        sample["answer"] = _plain(first["filtered_resps"][0])
        sample["ending"] = getattr(model, "endings", {}).get((name, item))
    return sample


def _choices(leaf: LoadedTask, item: int, record: dict[str, Any]) -> Sample:
    """Returns the kept values of an item with choices.

    `bits_per_byte` is -log2 p of the correct answer given the question, over the answer's UTF-8 bytes
    without the delimiter before it. It changes long before accuracy does (OLMo's in-loop evaluation).
    """
    # acc_mutual_info asks for the choices again, without the question, after those with it.
    count = len(leaf.doc_to_choice(record["doc"]))
    scores = [score for score, _ in record["filtered_resps"]][:count]
    predicted = int(np.argmax(scores))
    right = right_answers(leaf, item, record["doc"])
    accuracy = record.get("acc", float(predicted in right))
    if not callable(leaf.config.process_results) and (predicted in right) != bool(accuracy):
        raise RuntimeError(f"{leaf.config.task}, item {item}: gold answer and accuracy disagree")
    gold = predicted if predicted in right else right[0]  # of several right ones
    delimiter = len(leaf.config.target_delimiter)
    answers = [arguments[1][delimiter:] for arguments in record["arguments"]][:count]
    size = max(1, len(answers[gold].encode()))
    normalised = record.get("acc_norm")
    return {
        "gold": gold,
        "predicted": predicted,
        "acc": _whole(accuracy),
        "acc_norm": None if normalised is None else _whole(normalised),
        "loglikelihoods": scores,
        "choice_characters": [len(answer) for answer in answers],
        "bits_per_byte": -scores[gold] / (size * math.log(2)),
    }


def _whole(value: float) -> float:
    return int(value) if value == int(value) else float(value)


def _plain(value: Any) -> Any:
    """Returns a value as JSON; NaN and infinity become null."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, (bool, int, str)) or value is None else str(value)


def scores_of(
    leaves: dict[str, LoadedTask],
    results: dict[str, Any],
    samples: list[Sample],
    group: Group | None = None,
) -> Sample:
    """Returns the scores of a task, from lm-eval's results and the samples of its leaf tasks.

    `group` is lm-eval's group, if the task is one. If it weights its tasks equally and their numbers of items
    differ, the aggregation of a metric that is a mean over a leaf task's items is called BY_TASK.
    """
    scores: dict[str, Any] = {"n": len(samples), "metrics": {}, "aggregations": {}, "higher_is_better": {}}
    several = any(len(leaf._filters) > 1 for leaf in leaves.values())
    for key in _metric_keys(results, leaves):
        metric = key.partition(",")[0]
        shown = key if several else metric
        first = next(iter(leaves.values()))
        function = first.aggregation().get(metric, mean)
        scores["aggregations"][shown] = NAMES.get(function, "a function of the task")
        # Like lm-eval: unless a definition says otherwise, higher is better.
        scores["higher_is_better"][shown] = first.higher_is_better().get(metric) is not False
        if _counts_tasks(group, key) and _differ_in_size(samples, shown):
            kind = scores["aggregations"][shown]
            scores["aggregations"][shown] = BY_TASK if kind == "mean" else f"{BY_TASK}: {kind}"
            score, error = _summed(key, leaves, results)
        elif NAMES.get(function) == "mean":
            values = [sample[shown] for sample in samples if sample.get(shown) is not None]
            score = mean(values) if values else None
            error = mean_stderr(values) if len(values) > 1 else None
        else:
            score, error = _summed(key, leaves, results, samples)
        scores["metrics"] |= {shown: score, f"{shown}_stderr": error}
    choices = [sample for sample in samples if "loglikelihoods" in sample]
    return scores | {
        "bits_per_byte": mean([sample["bits_per_byte"] for sample in choices]) if choices else None,
        "chance": mean([1 / len(sample["loglikelihoods"]) for sample in choices]) if choices else None,
        "cut": {
            "items": sum(sample["cut"] > 0 for sample in samples),
            "tokens": sum(sample["cut"] for sample in samples),
        },
        "lm_eval": metadata.version("lm_eval"),
        "task_versions": sorted({str(results["versions"][name]) for name in leaves}),
    }


def _counts_tasks(group: Group | None, key: str) -> bool:
    """Whether lm-eval's score of a group is the unweighted mean over its leaf tasks. That includes the leaf
    tasks of inner groups, regardless of these groups' own settings."""
    metric, _, filtered = key.partition(",")
    return any(
        entry.metric == metric and not entry.weight_by_size and filtered in (entry.filter_list or [filtered])
        for entry in (group.aggregate_metric_list if group else None) or []
    )


def _differ_in_size(samples: list[Sample], metric: str) -> bool:
    """Whether some leaf tasks have more items with this metric than others."""
    return len(set(Counter(s["task"] for s in samples if s.get(metric) is not None).values())) > 1


def _summed(
    key: str, leaves: dict[str, LoadedTask], results: dict[str, Any], samples: list[Sample] | None = None
) -> tuple[float | None, float | None]:
    """Returns a metric that is no mean over items, and its standard error, as lm-eval computes them.

    Over several leaf tasks it is the mean weighted by their items in `samples` (lm-eval's weight_by_size), or
    without samples the unweighted mean.
    """
    metric, _, filtered = key.partition(",")
    sizes = [sum(sample["task"] == name for sample in samples or []) or 1 for name in leaves]
    score = float(np.average([results["results"][name][key] for name in leaves], weights=sizes))
    errors = [results["results"][name].get(f"{metric}_stderr,{filtered}") for name in leaves]
    if not all(isinstance(error, float) for error in errors):
        return _plain(score), None
    if len(errors) == 1:
        return _plain(score), _plain(errors[0])
    error = pooled_sample_stderr(errors, sizes) if samples else unweighted_mean_stderr(errors)
    return _plain(score), _plain(float(error))


def _metric_keys(results: dict[str, Any], leaves: dict[str, LoadedTask]) -> list[str]:
    """Returns lm-eval's keys (metric,filter) that all leaf tasks have, in the first task's order."""
    first, *others = (results["results"][name] for name in leaves)
    keys = [key for key in first if "," in key and "_stderr," not in key]
    return [key for key in keys if all(key in other for other in others)]
