import copy
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from cpt.command import run
from cpt.evaluate.benchmarks import COUNTS
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.evaluate.tasks import evaluate_task
from cpt.files import write_text

# lm-eval after the evaluate wing, which turns the hub's client off.
from lm_eval.api.instance import Instance  # isort: skip
from lm_eval.api.model import LM  # isort: skip
from lm_eval.models.huggingface import HFLM  # isort: skip

BATCH_SIZES = (1, 2, 4, 8)
SUBSET, NEIGHBOURS = 400, 8
SPEED_BAR, DIFFERENCE_BAR = 1.8, 1e-4


class Recorder(LM):
    """Keeps the requests of a task."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        self.requests = requests
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError


class Question(NamedTuple):
    """What both systems are asked of a task, and how lm-eval answers fastest."""

    requests: list[Instance]
    items: int
    theirs: HFLM  # at its fastest batch size
    spread: float  # largest difference between its batch sizes


def by_length(requests: list[Instance]) -> list[list[Instance]]:
    """The requests of each item, items in the order of their characters."""
    items: dict[tuple, list[Instance]] = {}
    for request in requests:
        items.setdefault((request.task_name, request.doc_id), []).append(request)
    return sorted(
        items.values(), key=lambda item: sum(len(text) for request in item for text in request.args)
    )


def spaced(items: list[list[Instance]], n: int) -> list[list[Instance]]:
    """About `n` items: groups of neighbours, their middles evenly spaced."""
    groups = max(1, round(n / NEIGHBOURS))
    begins = [int((k + 0.5) / groups * len(items)) - NEIGHBOURS // 2 for k in range(groups)]
    return [item for begin in begins for item in items[max(0, begin) : max(0, begin) + NEIGHBOURS]]


def timed(system: LM, requests: list[Instance]) -> tuple[float, list[float]]:
    """Seconds that a system takes for the requests, and its log-likelihoods."""
    gpu = torch.cuda.is_available()
    clock: Callable[[], float] = time.perf_counter if gpu else time.process_time
    begin = clock()
    answers = system.loglikelihood(requests, disable_tqdm=True)
    if gpu:
        torch.cuda.synchronize()
    return clock() - begin, [value for value, _ in answers]


def difference(one: list[float], other: list[float]) -> float:
    """The largest absolute difference."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def question(task: str, benchmarks: Path, systems: dict[int, HFLM], items: int, seed: int) -> Question:
    """The requests of some items of a task, and lm-eval's fastest batch size on a few of them."""
    recorder = Recorder()
    evaluate_task(recorder, benchmarks, task, SUBSET, seed)
    chosen = spaced(by_length(recorder.requests), items)
    # As many items as make a batch of the largest size: answers of one letter or word share a sequence.
    few = NEIGHBOURS if task in ("mmlu", "boolq") else NEIGHBOURS // 2
    trial = [request for item in chosen[-few:] for request in item]
    tried = {size: timed(system, trial) for size, system in systems.items()}
    best = min(tried, key=lambda size: tried[size][0])
    spread = max(difference(tried[1][1], values) for _, values in tried.values())
    took = ", ".join(f"{size}: {seconds:.2f} s" for size, (seconds, _) in tried.items())
    logging.info(
        f"{task}: lm-eval is fastest with batch size {best} ({took}); its batch sizes differ by up to "
        f"{spread:.1e}"
    )
    return Question([request for item in chosen for request in item], len(chosen), systems[best], spread)


def evaluation(
    model: Path,
    benchmarks: Path,
    table: Path,
    items_per_task: int = 24,
    repeats: int = 3,
    seed: int = 0,
    batch_tokens: int = 1_024,
    threads: int = 1,
) -> None:
    """How fast a model is scored, beside lm-eval's own model class, and whether both give the same.

    `ours` is cpt.evaluate.scorer, `lm-eval` its HFLM, with the same weights in float32. Both get the same
    requests, in one run and on one thread. What counts is the CPU time from the texts to the log-likelihoods,
    so that other work on the machine weighs little; loading and lm-eval's building of requests, which are the
    same for both, don't count. On a GPU it is wall time.

    The items of a task are groups of 8 neighbours in the order of length, evenly spaced over a fixed random
    subset of 400 (MMLU: over all subjects). So lm-eval's batches have next to no padding, as on a full split,
    where it sorts by length as well. It tries its batch sizes on some of the items, and keeps for each task
    the one it is fastest with. Then the systems take turns; the medians of the repeats go into the table. The
    task `all` is the seven of Table 1 together, weighted by the number of items of the full splits.

    max_abs_logprob_difference is, for ours, the largest difference to lm-eval over all answers to all items;
    for lm-eval, the largest difference between its own batch sizes, over the items it tried them on.

    Args:
        model: Hugging Face model folder.
        benchmarks: folder of fetch_benchmarks.
        table: CSV file to write.
        items_per_task: how many.
        repeats: how many.
        seed: of the subset.
        batch_tokens: of ours, tokens through the model at once.
        threads: CPU threads.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    loaded, tokenizer = load_model(model, "float32", threads, "cuda" if torch.cuda.is_available() else "cpu")
    ours = Scorer(copy.deepcopy(loaded), tokenizer, batch_tokens, False)
    shared = {"pretrained": loaded, "tokenizer": tokenizer, "add_bos_token": False}
    theirs = {size: HFLM(batch_size=size, **shared) for size in BATCH_SIZES}
    asked = {task: question(task, benchmarks, theirs, items_per_task, seed) for task in COUNTS}
    seconds: dict[tuple[str, str], list[float]] = {}
    differences = {("lm-eval", task): asked[task].spread for task in COUNTS}
    for repeat in range(1, repeats + 1):
        for task, (requests, items, fastest, _) in asked.items():
            values = {}
            for name, system in (("ours", ours), ("lm-eval", fastest)):
                taken, values[name] = timed(system, requests)
                seconds.setdefault((name, task), []).append(taken / items)
            differences["ours", task] = difference(values["ours"], values["lm-eval"])
            logging.info(
                f"repeat {repeat}, {task}: ours {seconds['ours', task][-1]:.3f}, lm-eval "
                f"{seconds['lm-eval', task][-1]:.3f} s per item; largest difference "
                f"{differences['ours', task]:.1e}"
            )
    rates: dict[tuple[str, str], float] = {}
    for system in ("ours", "lm-eval"):
        per_item = {task: statistics.median(seconds[system, task]) for task in COUNTS}
        rates |= {(system, task): 1 / value for task, value in per_item.items()}
        weighted = sum(COUNTS[task] * per_item[task] for task in COUNTS)
        rates[system, "all"] = sum(COUNTS.values()) / weighted
        differences[system, "all"] = max(differences[system, task] for task in COUNTS)
    lines = ["system,task,items_per_second,max_abs_logprob_difference"]
    lines += [f"{','.join(key)},{rate:.4g},{differences[key]:.2g}" for key, rate in rates.items()]
    write_text(table, "\n".join(lines) + "\n")
    for line in lines:
        logging.info(line)
    ratio = {task: rates["ours", task] / rates["lm-eval", task] for task in (*COUNTS, "all")}
    for task, times in ratio.items():
        logging.info(f"{task}: {times:.2f} times lm-eval's rate")
    logging.info(
        f"bars: {ratio['all']:.2f} times (at least {SPEED_BAR:.1f}), difference "
        f"{differences['ours', 'all']:.1e} (at most {DIFFERENCE_BAR:.0e})"
    )


if __name__ == "__main__":
    run(evaluation)
