"""Made-up answers to tasks of all output types, in the shapes that the evaluation writes."""

import json
import math
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from report_experiment import summary_of, write_json

from cpt.config_evaluate import Task as Column

RUNS = {"base": 0, "cpt-10K": 10_240, "cpt-25K": 25_600}
SKILL = {"base": 0.3, "cpt-10K": 0.45, "cpt-25K": 0.5}
ITEMS = 60
Task = tuple[dict[str, Any], list[dict[str, Any]]]


def _sample(task: str, item: int, **values: Any) -> dict[str, Any]:
    hashes = {"doc_hash": f"d{item}", "prompt_hash": f"p{item}", "target_hash": f"t{item}"}
    return {"task": task, "item": item, **hashes, "cut": 0, **values}


def generated(run: str) -> Task:
    """Five-shot arithmetic: exact match of two filters; some prompts were cut."""
    likely = np.random.default_rng(1).random(ITEMS)
    right = likely < SKILL[run]
    samples = [
        _sample("gsm8k", item, answer="7", ending="7\n", cut=3 if item < 4 else 0)
        | {
            "exact_match,strict-match": int(right[item]),
            "exact_match,flexible-extract": int(likely[item] < 0.6),
        }
        for item in range(ITEMS)
    ]
    metrics = {
        "exact_match,strict-match": float(right.mean()),
        "exact_match,flexible-extract": float((likely < 0.6).mean()),
    }
    return summary_of("gsm8k", metrics, ITEMS, 1319, output_type="generate_until", shots=5) | {
        "cut": {"items": 4, "tokens": 12}
    }, samples


def passages(run: str) -> Task:
    """F1 of each answer, between 0 and 1, in two leaf tasks, one of them small."""
    generator = np.random.default_rng(2)
    noise = 0.1 * np.random.default_rng(RUNS[run]).standard_normal(ITEMS)
    scores = np.clip(generator.beta(2, 3, ITEMS) + noise + SKILL[run] - 0.3, 0, 1)
    samples = [
        _sample(
            "reading_a" if item < 45 else "reading_b", item, answer="x", ending="x", f1=float(scores[item])
        )
        for item in range(ITEMS)
    ]
    spread = float(scores.std(ddof=1) / math.sqrt(ITEMS))
    metrics = {"f1": float(scores.mean()), "f1_stderr": spread}
    summary = summary_of("reading", metrics, ITEMS, ITEMS, output_type="generate_until")
    return summary | {"aggregations": {"f1": "mean"}, "higher_is_better": {"f1": True}}, samples


def last_words(run: str) -> Task:
    """Lambada: accuracy and perplexity of a word, from the same log-likelihoods."""
    noise = 0.1 * np.random.default_rng(RUNS[run]).standard_normal(ITEMS)
    logs = -np.random.default_rng(3).exponential(4, ITEMS) + SKILL[run] + noise
    samples = [
        _sample("lambada_openai", item, acc=int(logs[item] > -2), perplexity=float(logs[item]))
        for item in range(ITEMS)
    ]
    metrics = {"perplexity": float(np.exp(-logs.mean())), "acc": float((logs > -2).mean())}
    metrics |= {"perplexity_stderr": 1.5}
    summary = summary_of("lambada_openai", metrics, ITEMS, ITEMS, output_type="loglikelihood")
    return summary | {
        "aggregations": {"perplexity": "perplexity", "acc": "mean"},
        "higher_is_better": {"perplexity": False, "acc": True},
    }, samples


def rolling(run: str) -> Task:
    """Wikitext: three metrics of a whole text's log-likelihood, weighted by its words or bytes."""
    generator = np.random.default_rng(4)
    size = generator.integers(100, 2000, ITEMS)
    noise = 0.01 * np.random.default_rng(RUNS[run]).standard_normal(ITEMS)
    logs = -size * (1.1 - SKILL[run] / 5 + 0.1 * generator.random(ITEMS) + noise)
    words = size // 5
    samples = [
        _sample("wikitext", item)
        | {"word_perplexity": [float(logs[item]), int(words[item])]}
        | {name: [float(logs[item]), int(size[item])] for name in ("byte_perplexity", "bits_per_byte")}
        for item in range(ITEMS)
    ]
    mean = logs.sum() / size.sum()
    metrics = {"word_perplexity": float(np.exp(-logs.sum() / words.sum()))}
    metrics |= {"byte_perplexity": float(np.exp(-mean)), "bits_per_byte": float(-mean / math.log(2))}
    summary = summary_of("wikitext", metrics, ITEMS, ITEMS, output_type="loglikelihood_rolling")
    return summary | {
        "aggregations": {**dict.fromkeys(metrics, "weighted_perplexity"), "bits_per_byte": "bits_per_byte"},
        "higher_is_better": dict.fromkeys(metrics, False),
    }, samples


def translated(run: str) -> Task:
    """BLEU, which is computed from all items at once."""
    samples = [_sample("wmt", item, answer="x", ending="x", bleu=["a", "b"]) for item in range(ITEMS)]
    metrics = {"bleu": 10 + 10 * SKILL[run], "bleu_stderr": 1.25}
    summary = summary_of("wmt", metrics, ITEMS, 3000, output_type="generate_until")
    return summary | {"aggregations": {"bleu": "bleu"}, "higher_is_better": {"bleu": True}}, samples


def chosen(run: str, right: float = 0.2, wrong: float = 0.2, task: str = "choice") -> Task:
    """Four choices, whose log-likelihoods all rise, or the right ones more than the wrong ones."""
    generator = np.random.default_rng(5)
    start = -10 + generator.standard_normal((ITEMS, 4))
    trained = RUNS[run] > 0
    seed = [RUNS[run], zlib.crc32(task.encode())]
    noise = 0.05 * np.random.default_rng(seed).standard_normal((ITEMS, 4)) if trained else 0.0
    gold = np.arange(ITEMS) % 4
    rise = np.full((ITEMS, 4), wrong)
    rise[np.arange(ITEMS), gold] = right
    logs = start + (rise + noise if trained else 0)
    predicted = logs.argmax(1)
    samples = [
        _sample(task, item, gold=int(gold[item]), predicted=int(predicted[item]), acc_norm=None)
        | {"acc": int(predicted[item] == gold[item]), "loglikelihoods": logs[item].tolist()}
        | {"choice_characters": [8, 9, 10, 11], "bits_per_byte": float(-logs[item, gold[item]] / 10)}
        for item in range(ITEMS)
    ]
    return summary_of(task, {"acc": float((predicted == gold).mean())}, ITEMS, ITEMS), samples


def two_leaves(run: str) -> Task:
    """Perplexity of two leaf tasks: their mean, weighted by items."""
    summary, samples = last_words(run)
    for sample in samples:
        sample["task"] += "_a" if sample["item"] < 20 else "_b"
    logs = np.array([sample["perplexity"] for sample in samples])
    score = 20 / ITEMS * np.exp(-logs[:20].mean()) + 40 / ITEMS * np.exp(-logs[20:].mean())
    return {**summary, "metrics": {**summary["metrics"], "perplexity": float(score)}}, samples


def unknown(run: str) -> Task:
    """A corpus metric that isn't a number in one run, and an item value that is missing."""
    summary, samples = translated(run)
    for sample in samples:
        sample["rouge"] = None if sample["item"] == 3 else 0.5
    summary["metrics"] |= {"bleu": None if run == "base" else 12.0, "bleu_stderr": None, "rouge": 0.5}
    summary["aggregations"]["rouge"], summary["higher_is_better"]["rouge"] = "mean", True
    return summary, samples


TASKS: dict[str, Callable[[str], Task]] = {
    "choice": chosen,
    "gsm8k": generated,
    "reading": passages,
    "lambada_openai": last_words,
    "wikitext": rolling,
    "wmt": translated,
}


def add_tasks(root: Path, parts: dict[str, Any], others: Iterable[str]) -> None:
    """Add these tasks to the experiment that report_experiment.build wrote, as columns of Table 1."""
    write_tasks(root, {task: TASKS[task] for task in others})
    for task in others:
        column = {"task": task, "label": task.capitalize(), "metric": None, "in_table": True}
        parts["config"]["evaluate"]["tasks"][task] = column
        parts["table_tasks"][task], parts["metrics"][task] = Column(**column), None
    (root / "config.yaml").write_text(yaml.safe_dump(parts["config"], sort_keys=False))


def write_tasks(folder: Path, tasks: dict[str, Callable[[str], Task]], runs: dict[str, int] = RUNS) -> None:
    """Write {task}.json and {task}.samples.jsonl of all runs."""
    for run in runs:
        for task, make in tasks.items():
            summary, samples = make(run)
            write_json(folder / "evaluations" / run / f"{task}.json", summary)
            text = "".join(json.dumps(sample) + "\n" for sample in samples)
            (folder / "evaluations" / run / f"{task}.samples.jsonl").write_text(text)
