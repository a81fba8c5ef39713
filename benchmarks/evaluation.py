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
"""

import argparse
import copy
import csv
import io
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from cpt.command import command_parser, run
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


def main(arguments: argparse.Namespace) -> None:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model, tokenizer = load_model(arguments.model, "float32", arguments.threads)
    ours = Scorer(copy.deepcopy(model), tokenizer, arguments.batch_tokens, False)
    theirs = {
        size: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, add_bos_token=False)
        for size in BATCH_SIZES
    }
    recorder = Recorder()
    best, spread, requests, items = {}, {}, {}, {}
    for task in COUNTS:
        evaluate_task(recorder, arguments.benchmarks, task, SUBSET, arguments.seed)
        chosen = spaced(by_length(recorder.requests), arguments.items)
        requests[task], items[task] = [request for item in chosen for request in item], len(chosen)
        # As many items as make a batch of the largest size: answers of one letter or word share a sequence.
        few = NEIGHBOURS if task in ("mmlu", "boolq") else NEIGHBOURS // 2
        trial = [request for item in chosen[-few:] for request in item]
        tried = {size: timed(theirs[size], trial) for size in BATCH_SIZES}
        best[task] = min(tried, key=lambda size: tried[size][0])
        spread[task] = max(difference(tried[1][1], values) for _, values in tried.values())
        logging.info(
            "%s: lm-eval is fastest with batch size %d (%s); its batch sizes differ by up to %.1e",
            *(task, best[task], ", ".join(f"{size}: {tried[size][0]:.2f} s" for size in BATCH_SIZES)),
            spread[task],
        )
    seconds: dict[tuple[str, str], list[float]] = {}
    differences = {("lm-eval", task): value for task, value in spread.items()}
    for repeat in range(arguments.repeats):
        for task in COUNTS:
            asked = requests[task]
            values = {}
            for name, system in (("ours", ours), ("lm-eval", theirs[best[task]])):
                taken, values[name] = timed(system, asked)
                seconds.setdefault((name, task), []).append(taken / items[task])
            differences["ours", task] = difference(values["ours"], values["lm-eval"])
            logging.info(
                "repeat %d, %s: ours %.3f, lm-eval %.3f s per item; largest difference %.1e",
                *(repeat + 1, task, seconds["ours", task][-1], seconds["lm-eval", task][-1]),
                differences["ours", task],
            )
    rows = []
    for system in ("ours", "lm-eval"):
        per_item = {task: statistics.median(seconds[system, task]) for task in COUNTS}
        rates = {task: 1 / value for task, value in per_item.items()}
        rates["all"] = sum(COUNTS.values()) / sum(COUNTS[task] * per_item[task] for task in COUNTS)
        differences[system, "all"] = max(differences[system, task] for task in COUNTS)
        rows += [
            [system, task, f"{rate:.4g}", f"{differences[system, task]:.2g}"] for task, rate in rates.items()
        ]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["system", "task", "items_per_second", "max_abs_logprob_difference"])
    writer.writerows(rows)
    write_text(arguments.output, table.getvalue())
    for line in table.getvalue().splitlines():
        logging.info(line)
    rate = {(system, task): float(value) for system, task, value, _ in rows}
    for task in (*COUNTS, "all"):
        logging.info("%s: %.2f times lm-eval's rate", task, rate["ours", task] / rate["lm-eval", task])
    logging.info(
        "bars: %.2f times (at least %.1f), difference %.1e (at most %.0e)",
        *(rate["ours", "all"] / rate["lm-eval", "all"], SPEED_BAR),
        *(differences["ours", "all"], DIFFERENCE_BAR),
    )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model folder")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of fetch_benchmarks")
    parser.add_argument("--items", type=int, default=24, help="of each task")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the subset")
    parser.add_argument(
        "--batch-tokens", type=int, default=1_024, help="ours: tokens through the model at once"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="the table (.csv)")
    run(main, parser)
