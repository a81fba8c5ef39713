"""CPU seconds and peak memory of the training loss, forward and backward, of one long sequence.

`--rows 0` computes all logits at once, as transformers does; another number is how many positions
cpt.train.losses computes logits for at once. Peak memory is the process's, less its peak before the loss,
so each row of a comparison needs a process of its own.
"""

import resource
import statistics
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cpt.command import run
from cpt.cpu import set_up_products
from cpt.train.losses import LOGIT_ROWS, HeadLoss


def peak_mb() -> float:
    """Returns the peak resident memory of this process so far in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def loss(
    rows: int, positions: int = 2_000, width: int = 576, vocabulary: int = 49_152, repeats: int = 3
) -> None:
    """Print one line: rows, the loss, the median of CPU seconds, peak memory.

    Args:
        rows: positions whose logits are computed at once; 0: all, as in transformers.
        positions: length of the sequence.
        width: hidden size; the default is SmolLM2-135M's.
        vocabulary: tokens in the vocabulary.
        repeats: measured repeats, after one to warm up.
    """
    torch.set_num_threads(1)
    set_up_products()
    torch.manual_seed(0)
    hidden = torch.randn(positions, width, requires_grad=True)
    head = nn.Linear(width, vocabulary, bias=False)
    targets = torch.randint(0, vocabulary, (positions,))
    weights = torch.ones(positions)
    head_loss = HeadLoss(head)
    if rows:
        LOGIT_ROWS["cpu"] = rows
    before, seconds = peak_mb(), []
    for _ in range(repeats + 1):
        hidden.grad = head.weight.grad = None
        start = time.process_time()
        if rows:
            total = head_loss(hidden, targets, weights)
        else:
            total = (cross_entropy(head(hidden), targets, reduction="none") * weights).sum()
        total.backward()
        seconds.append(time.process_time() - start)
    print(
        f"rows {rows}: loss {total.item() / positions:.6f}, "
        f"median {statistics.median(seconds[1:]):.2f} s, peak {peak_mb() - before:.0f} MB"
    )


if __name__ == "__main__":
    run(loss)
