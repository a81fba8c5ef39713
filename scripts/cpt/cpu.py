"""Matrix products on a CPU: the library for float32, and whether bfloat16 is faster."""

import ctypes
import platform
import re
import time
from pathlib import Path

import torch
from torch import nn

CPUINFO = Path("/proc/cpuinfo")
# Fields of /proc/cpuinfo that identify a processor (x86 and Arm), and instructions for fast products.
PROCESSOR_KEYS = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
PRODUCT_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "bf16", "i8mm")
# Rows of a timed product, and the maximum of its other two sizes: without instructions for bfloat16, a large
# model's product would take minutes.
TIMED_ROWS, TIMED_SIZE, REPEATS = 1024, 1024, 4

# Options of glibc's malloc.h. M_TRIM_THRESHOLD: free memory at the heap's end that goes back to the system.
# M_MMAP_THRESHOLD: blocks from this size on come from the system; a step has few, and in the heap they would
# leave holes. mallopt(3) limits it to 32 MB, but glibc 2.36 has no such limit.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
ALL, LARGE, FORMER_LARGEST = 2**31 - 1, 2**26, 2**25


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory. By default it gives tensors of 128 KB and more back to the system.

    Memory from the system costs a page fault per 4 KB, a fourth of a training step in bfloat16
    (docs/performance-bfloat16.md). Only blocks of 64 MB and more still go back, such as logits and gradients
    of the head. Does nothing with other C libraries.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        adjust(M_TRIM_THRESHOLD, ALL)
        if not adjust(M_MMAP_THRESHOLD, LARGE):
            adjust(M_MMAP_THRESHOLD, FORMER_LARGEST)


def give_back_memory() -> None:
    """Make glibc give freed memory back to the system, so that the process holds only what it uses."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def set_up_products() -> bool:
    """Let oneDNN compute float32 products where MKL, PyTorch's default, uses half of the processor.

    MKL uses AVX-512 only on Intel's processors; on AMD's, oneDNN is 2.2 times as fast
    (docs/performance-training.md). oneDNN rounds sums more coarsely, so it serves only means over many
    tokens; tasks are scored with MKL, as lm-eval does.

    PyTorch passes products to oneDNN only if they may be rounded to bfloat16. oneDNN rounds them only on
    processors with matrix units (AMX), which `products_are_exact` checks. The choice depends on the processor
    alone, so that a run resumes bit for bit.

    Returns whether oneDNN is used.
    """
    if "AuthenticAMD" not in CPUINFO.read_text() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    if not products_are_exact():
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"
        return False
    return True


def products_are_exact() -> bool:
    """Whether float32 products keep all bits of their factors; bfloat16 would keep 8.

    The factors here have 10 and 9, so that float32 holds every sum of up to 64 of their products exactly.
    """
    left, right = torch.full((256, 64), 1 + 2.0**-9), torch.full((64, 256), 1 + 2.0**-8)
    return bool((left @ right == 64 * (1 + 2.0**-9) * (1 + 2.0**-8)).all())


def processor() -> str:
    """Returns the processor's name, family and model, and its instructions for fast products."""
    text = CPUINFO.read_text()
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    name = [f"{key} {fields[key]}".removeprefix("model name ") for key in PROCESSOR_KEYS if key in fields]
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return ", ".join([*(name or [platform.machine()]), *(flag for flag in PRODUCT_FLAGS if flag in flags)])


def bfloat16_gain(model: nn.Module) -> float:
    """Returns this processor's speedup of a model's products in bfloat16 autocast over float32.

    It compares CPU seconds, the minimum of a few attempts each, so that other work on the machine changes
    little. The model is float32, and its products are computed as set_up_products chose.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    sizes = {tuple(min(size, TIMED_SIZE) for size in layer.weight.shape) for layer in layers}
    seconds = {False: 0.0, True: 0.0}
    for size in sorted(sizes):
        weight = torch.full(size, 0.5)
        rows = torch.full((TIMED_ROWS, size[1]), 0.5)
        for autocast in seconds:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                seconds[autocast] += min(_product_seconds(rows, weight) for _ in range(REPEATS))
    return seconds[False] / seconds[True] if sizes else 0.0


def _product_seconds(rows: torch.Tensor, weight: torch.Tensor) -> float:
    """CPU seconds of rows @ weight^T."""
    began = time.process_time()
    nn.functional.linear(rows, weight)
    return time.process_time() - began
