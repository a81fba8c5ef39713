import copy
import logging
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import lm_eval.tasks
import pyarrow.parquet as pq
import torch
import yaml

from cpt.command import run
from cpt.data_sets import COUNTS, DATA_SETS
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.files import write_text

# lm-eval after the evaluate wing, which turns the hub's client off.
from lm_eval.api.instance import Instance  # isort: skip
from lm_eval.api.model import LM  # isort: skip
from lm_eval.models.huggingface import HFLM  # isort: skip
from lm_eval.tasks import TaskManager  # isort: skip

SUBSET, NEIGHBOURS = 400, 8
FOLDERS = {"arc_challenge": "arc", "arc_easy": "arc", "boolq": "super_glue", "mmlu": "mmlu/default"}
SUBJECTS, SUBJECT_ITEMS = ("anatomy", "high_school_biology"), 20  # a whole subject has 100 items or more
EXAMPLES = 5
GENERATION = {"until": ["\n\n", "Question:"], "max_gen_toks": 64, "do_sample": False}
BARS = {"zero-shot": 1.8, "mmlu, 5 shots": 4.0, "generation": 1.0, "generation, 5 examples": 1.0}
DIFFERENCE_BAR = 1e-4


class Question(NamedTuple):
    """The requests to both systems, and lm-eval at its fastest."""

    requests: list[Instance]
    items: int
    theirs: HFLM  # at its fastest batch size
    spread: float  # largest difference between its batch sizes


def build_requests(benchmarks: Path, task: str, items: dict[str, list[int]], shots: int) -> list[Instance]:
    """Returns lm-eval's requests for items of a task; `items` are their numbers by leaf task."""
    with tempfile.TemporaryDirectory(prefix="evaluation-") as cache:
        data = {
            "dataset_path": str((benchmarks / DATA_SETS[task].repository).resolve()),
            "dataset_kwargs": {"cache_dir": str(Path(cache, "data"))},
            "num_fewshot": shots,
        }
        group = {"group": "chosen", "task": [{"task": leaf, **data} for leaf in items]}
        Path(cache, "chosen.yaml").write_text(yaml.safe_dump(group))
        folder = Path(lm_eval.tasks.__file__).parent / FOLDERS.get(task, task)  # indexing all takes 15 s
        manager = TaskManager(include_defaults=False, include_path=[folder, Path(cache)])
        leaves = manager.load(["chosen"])["tasks"].values()
        requests = []
        for leaf in leaves:
            leaf.build_all_requests(samples=items[leaf.config.task])
            requests += leaf.instances
    return requests


def by_length(requests: list[Instance]) -> list[list[Instance]]:
    """Returns the requests of each item; items are sorted by their number of characters."""
    items: dict[tuple, list[Instance]] = {}
    for request in requests:
        items.setdefault((request.task_name, request.doc_id), []).append(request)
    return sorted(
        items.values(), key=lambda item: sum(len(text) for request in item for text in request.args)
    )


def spaced(items: list[list[Instance]], n: int) -> list[list[Instance]]:
    """Returns about `n` items: groups of neighbours, whose middles are evenly spaced."""
    groups = max(1, round(n / NEIGHBOURS))
    begins = [int((k + 0.5) / groups * len(items)) - NEIGHBOURS // 2 for k in range(groups)]
    return [item for begin in begins for item in items[max(0, begin) : max(0, begin) + NEIGHBOURS]]


def zero_shot(benchmarks: Path, task: str, n: int, seed: int) -> list[list[Instance]]:
    """Returns items of a task without examples, each as its requests."""
    table = pq.read_table(benchmarks / "items.parquet", columns=["task", "item"])
    pairs = zip(table["task"].to_pylist(), table["item"].to_pylist(), strict=True)
    pool = [(leaf, item) for leaf, item in pairs if leaf == task or leaf.startswith(f"{task}_")]
    items: dict[str, list[int]] = defaultdict(list)
    for leaf, item in sorted(random.Random(seed).sample(pool, min(SUBSET, len(pool)))):
        items[leaf].append(item)
    return spaced(by_length(build_requests(benchmarks, task, items, 0)), n)


def five_shots(benchmarks: Path) -> list[list[Instance]]:
    """Returns the first items of some of MMLU's subjects, each after its subject's five examples."""
    items = {f"mmlu_{subject}": list(range(SUBJECT_ITEMS)) for subject in SUBJECTS}
    return by_length(build_requests(benchmarks, "mmlu", items, EXAMPLES))


def generations(items: list[list[Instance]], examples: int) -> list[list[Instance]]:
    """Returns prompts from MMLU's questions without letters; each has the first `examples` with answers."""
    docs = [item[0].doc for item in items]
    questions = [f"Question: {doc['question'].strip()}\nAnswer:" for doc in docs]
    shots = [f"{text} {doc['choices'][doc['answer']]}\n\n" for text, doc in zip(questions, docs, strict=True)]
    beginning = "".join(shots[:examples])
    return [
        [Instance("generate_until", {}, (beginning + text, GENERATION), 0, ("generation", number, 1))]
        for number, text in enumerate(questions[examples:])
    ]


def texts(items: list[list[Instance]]) -> list[list[Instance]]:
    """Returns requests for the log-likelihood of whole texts of three BoolQ passages each."""
    passages = [item[0].doc["passage"] for item in items]
    return [
        [Instance("loglikelihood_rolling", {}, ("\n\n".join(passages[at : at + 3]),), 0, ("texts", at, 1))]
        for at in range(0, len(passages), 3)
    ]


def time_requests(system: LM, requests: list[Instance]) -> tuple[float, list[Any]]:
    """Returns a system's seconds for the requests (CPU time; on a GPU wall time), and its answers."""
    gpu = torch.cuda.is_available()
    clock: Callable[[], float] = time.perf_counter if gpu else time.process_time
    begin = clock()
    kind = requests[0].request_type
    ask = getattr(system, "loglikelihood" if kind == "multiple_choice" else kind)
    answers = ask(requests, disable_tqdm=True)
    if gpu:
        torch.cuda.synchronize()
    seconds = clock() - begin
    return seconds, [answer[0] if isinstance(answer, tuple) else answer for answer in answers]


def difference(one: list[Any], other: list[Any]) -> float:
    """Returns the largest absolute difference; for texts, the share that differs."""
    pairs = list(zip(one, other, strict=True))
    if isinstance(one[0], str):
        return sum(a != b for a, b in pairs) / len(pairs)
    return max(abs(a - b) for a, b in pairs)


def asked_questions(benchmarks: Path, n: int, seed: int) -> Iterator[tuple[str, list[list[Instance]]]]:
    """Yields the name and the items of each row of the table."""
    for task in COUNTS:
        yield task, zero_shot(benchmarks, task, n, seed)
    yield "mmlu, 5 shots", five_shots(benchmarks)
    prompts = zero_shot(benchmarks, "mmlu", n + EXAMPLES, seed)
    yield "generation", generations(prompts, 0)
    yield "generation, 5 examples", generations(prompts, EXAMPLES)
    yield "rolling", texts(zero_shot(benchmarks, "boolq", n, seed))


def question(name: str, items: list[list[Instance]], systems: dict[int, HFLM]) -> Question:
    """Returns the requests of items, and lm-eval with the batch size that is fastest on a few of them."""
    # Enough items for a batch of the largest size: answers of one letter or word share a sequence.
    few = NEIGHBOURS // 2 if len(items[0]) > 1 and name not in ("mmlu", "boolq") else NEIGHBOURS
    trial = [request for item in items[-few:] for request in item]
    tried = {size: time_requests(system, trial) for size, system in systems.items()}
    best = min(tried, key=lambda size: tried[size][0])
    spread = max(difference(tried[min(tried)][1], values) for _, values in tried.values())
    took = ", ".join(f"{size}: {seconds:.2f} s" for size, (seconds, _) in tried.items())
    logging.info(
        f"{name}: lm-eval is fastest with batch size {best} ({took}); its batch sizes differ by up to "
        f"{spread:.1e}"
    )
    return Question([request for item in items for request in item], len(items), systems[best], spread)


def evaluation(
    model: Path,
    benchmarks: Path,
    table: Path,
    items_per_task: int = 8,
    repeats: int = 1,
    seed: int = 0,
    batch_tokens: int = 1_024,
    batch_sizes: list[int] = (1, 2, 4, 8),
    threads: int = 1,
) -> None:
    """Measure how fast a model answers lm-eval, beside lm-eval's own model class, and compare the answers.

    `ours` is cpt.evaluate.scorer, `lm-eval` its HFLM, with the same weights in float32. Both get the same
    requests, in one process and by default on one thread. Time is CPU time from texts to answers, as other
    work on the machine changes it little; on a GPU it is wall time. Loading the model and lm-eval's building
    of requests don't count, as they are the same for both.

    Zero-shot items of a task are groups of 8 neighbours in the order of length, evenly spaced over a fixed
    random subset of 400 (MMLU: over all subjects). So lm-eval's batches have almost no padding, as on a full
    split, which it sorts by length as well. The row `zero-shot` has the seven tasks of Table 1 together,
    weighted by the number of items of the full splits. `mmlu, 5 shots` has the first 20 items of two subjects
    (a whole subject has 100 or more, and gains more). `generation` makes prompts from MMLU's questions, with
    and without five examples that all prompts share, and generates up to 64 tokens for each. `rolling` scores
    whole texts of three BoolQ passages.

    lm-eval tries its batch sizes on a few items, and uses the fastest one for each task. Then the systems
    take turns; the medians of the repeats go into the table.

    max_abs_logprob_difference is, for ours, the largest difference from lm-eval over all answers to all
    items; for lm-eval, the largest difference between its own batch sizes, over the items it tried them on.
    For generated texts, it is the share that differs.

    Args:
        model: Hugging Face model folder.
        benchmarks: folder that fetch_benchmarks wrote.
        table: CSV file to write.
        items_per_task: items of each zero-shot task.
        repeats: runs of each system.
        seed: seed of the subset.
        batch_tokens: for ours, tokens through the model at once.
        batch_sizes: batch sizes that lm-eval tries on a few items.
        threads: CPU threads.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    loaded, tokenizer = load_model(model, "float32", threads, "cuda" if torch.cuda.is_available() else "cpu")
    ours = Scorer(copy.deepcopy(loaded), tokenizer, batch_tokens, False)
    shared = {"pretrained": loaded, "tokenizer": tokenizer, "add_bos_token": False}
    theirs = {size: HFLM(batch_size=size, **shared) for size in batch_sizes}
    workloads = {
        name: question(name, items, theirs)
        for name, items in asked_questions(benchmarks, items_per_task, seed)
    }
    seconds: dict[tuple[str, str], list[float]] = {}
    differences = {("lm-eval", name): one.spread for name, one in workloads.items()}
    for repeat in range(1, repeats + 1):
        for name, (requests, items, fastest, _) in workloads.items():
            values = {}
            for system_name, system in (("ours", ours), ("lm-eval", fastest)):
                duration, values[system_name] = time_requests(system, requests)
                seconds.setdefault((system_name, name), []).append(duration / items)
            differences["ours", name] = difference(values["ours"], values["lm-eval"])
            logging.info(
                f"repeat {repeat}, {name}: ours {seconds['ours', name][-1]:.3f}, lm-eval "
                f"{seconds['lm-eval', name][-1]:.3f} s per item; largest difference "
                f"{differences['ours', name]:.1e}"
            )
    write_rates(table, seconds, differences, {name: one.items for name, one in workloads.items()})


def write_rates(
    table: Path,
    seconds: dict[tuple[str, str], list[float]],
    differences: dict[tuple[str, str], float],
    items: dict[str, int],
) -> None:
    """Write the table from the seconds per item by (system, task), and log it with ratios and bars."""
    rates: dict[tuple[str, str], float] = {}
    for system in ("ours", "lm-eval"):
        medians = {
            task: statistics.median(durations) for (who, task), durations in seconds.items() if who == system
        }
        weighted = sum(COUNTS[task] * medians[task] for task in COUNTS)
        rates[system, "zero-shot"] = sum(COUNTS.values()) / weighted
        differences[system, "zero-shot"] = max(differences[system, task] for task in COUNTS)
        rates |= {(system, task): 1 / value for task, value in medians.items()}
    items = {"zero-shot": sum(items[task] for task in COUNTS), **items}
    lines = ["system,task,items,items_per_second,max_abs_logprob_difference"]
    lines += [
        f'{system},"{task}",{items[task]},{rate:.4g},{differences[system, task]:.2g}'
        for (system, task), rate in rates.items()
    ]
    write_text(table, "\n".join(lines) + "\n")
    for line in lines:
        logging.info(line)
    for task in items:
        ratio = rates["ours", task] / rates["lm-eval", task]
        bar = f" (at least {BARS[task]:.1f})" if task in BARS else ""
        logging.info(f"{task}: {ratio:.2f} times lm-eval's rate{bar}")
    largest = max(
        value for (who, task), value in differences.items() if who == "ours" and "gener" not in task
    )
    logging.info(f"largest difference {largest:.1e} (at most {DIFFERENCE_BAR:.0e})")


if __name__ == "__main__":
    run(evaluation)
