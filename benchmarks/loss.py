"""CPU seconds and peak memory of the training loss, forward and backward, of one long sequence.

`--rows 0` computes all logits at once, as transformers does; other numbers are how many positions have
their logits at once in cpt.train.losses. Peak memory is the process's, less what it held before; so each
row of a comparison takes a process of its own.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cpt.cpu import set_up_products
from cpt.train.losses import LOGIT_ROWS, HeadLoss


def peak_mb() -> float:
    """Peak resident memory of this process so far in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(arguments: argparse.Namespace) -> None:
    """Print one line: rows, the loss, the median of CPU seconds, peak memory."""
    torch.set_num_threads(1)
    set_up_products()
    torch.manual_seed(0)
    hidden = torch.randn(arguments.positions, arguments.width, requires_grad=True)
    head = nn.Linear(arguments.width, arguments.vocabulary, bias=False)
    targets = torch.randint(0, arguments.vocabulary, (arguments.positions,))
    weights = torch.ones(arguments.positions)
    in_pieces = HeadLoss(head)
    if arguments.rows:
        LOGIT_ROWS["cpu"] = arguments.rows
    before, seconds = peak_mb(), []
    for _ in range(arguments.repeats + 1):
        hidden.grad = head.weight.grad = None
        start = time.process_time()
        if arguments.rows:
            loss = in_pieces(hidden, targets, weights)
        else:
            loss = (cross_entropy(head(hidden), targets, reduction="none") * weights).sum()
        loss.backward()
        seconds.append(time.process_time() - start)
    print(
        f"rows {arguments.rows}: loss {loss.item() / arguments.positions:.6f}, "
        f"median {statistics.median(seconds[1:]):.2f} s, peak {peak_mb() - before:.0f} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--positions", type=int, default=2000)
    parser.add_argument("--width", type=int, default=576, help="hidden size; the default is SmolLM2-135M's")
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--repeats", type=int, default=3)
    main(parser.parse_args())
