"""Which library computes float32 matrix products on a CPU."""

from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def set_up_products() -> bool:
    """Let oneDNN compute float32 products where MKL, PyTorch's choice, takes half of the processor.

    MKL uses AVX-512 on Intel's processors alone; on AMD's, oneDNN is 2.2 times as fast (docs/performance.md).
    Its sums are rounded more coarsely, so it is for means over many tokens: tasks are scored as lm-eval does.

    PyTorch hands products to oneDNN if they may be rounded to bfloat16, which oneDNN does on processors with
    matrix units (AMX) only: `products_are_exact` makes sure of it. The choice follows from the processor, so
    that a run goes on bit for bit.

    Returns whether it was done.
    """
    if "AuthenticAMD" not in CPUINFO.read_text() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    if not products_are_exact():
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
        return False
    return True


def products_are_exact() -> bool:
    """Whether float32 products keep all bits of their factors, of which bfloat16 has 8.

    The factors here have 10 and 9, so that float32 holds every sum of up to 64 of their products exactly.
    """
    left, right = torch.full((256, 64), 1 + 2.0**-9), torch.full((64, 256), 1 + 2.0**-8)
    return bool((left @ right == 64 * (1 + 2.0**-9) * (1 + 2.0**-8)).all())
