"""Measure how fast this CPU multiplies matrices of a model's shapes: float32 by MKL and oneDNN, bfloat16.

It prints a table of GFLOP per CPU second on one thread, medians of seven. oneDNN's figure
for float32 counts only where `exact` is yes: on processors with matrix units it may round to bfloat16.
"""

import statistics
import time

import torch

from cpt.command import run
from cpt.cpu import products_are_exact

# Rows, shared dimension, columns: SmolLM2-135M with 2,000 tokens.
SHAPES = {
    "queries, keys and values": (2_000, 576, 960),
    "gate or up": (2_000, 576, 1_536),
    "down": (2_000, 1_536, 576),
    "gradient of gate or up": (1_536, 2_000, 576),
    "logits of 256 positions": (256, 576, 49_152),
    "2,048 x 2,048": (2_048, 2_048, 2_048),
}


def gigaflops(left: torch.Tensor, right: torch.Tensor) -> float:
    """Returns the speed of left @ right^T in GFLOP (10^9 operations) per CPU second."""
    seconds = []
    for _ in range(8):
        began = time.process_time()
        left @ right.T
        seconds.append(time.process_time() - began)
    return 2e-9 * left.numel() * len(right) / statistics.median(seconds[1:])


def products() -> None:
    """Print the speed of matrix products of a model's shapes, by library and precision."""
    torch.set_num_threads(1)
    precision = torch.backends.mkldnn.matmul
    exact = {}
    for backend in ("ieee", "bf16"):
        precision.fp32_precision = backend
        exact[backend] = "yes" if products_are_exact() else "no"
    print("| product | shape | float32, MKL | float32, oneDNN | bfloat16 |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, shape in SHAPES.items():
        rows, shared, columns = shape
        left, right = torch.rand(rows, shared), torch.rand(columns, shared)
        speeds = []
        for backend in ("ieee", "bf16"):
            precision.fp32_precision = backend
            speeds.append(gigaflops(left, right))
        speeds.append(gigaflops(left.bfloat16(), right.bfloat16()))
        size = " x ".join(f"{number:,}" for number in shape)
        print(f"| {name} | {size} | {' | '.join(f'{value:.0f}' for value in speeds)} |")
    print(f"| exact | | {exact['ieee']} | {exact['bf16']} | |")


if __name__ == "__main__":
    run(products)
