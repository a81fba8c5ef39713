import contextlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from cpt.command import run

Row = tuple[str, str, str]  # what, measured, expected
PACKAGES = ("torch", "triton", "transformers", "numpy", "pydantic", "accelerate", "deepspeed", "liger-kernel")
HEADS, HEAD_SIZE = 9, 64  # of MobileLLM-125M
# By size: sequences and length of attention, edge of the square product, elements of a copy, repeats.
SIZES = {"full": (16, 2_000, 8_192, 2**30, 20), "tiny": (1, 64, 64, 2**12, 2)}
EXPECTED = {
    "copy": "2.6 to 4.4 TB/s",
    "square": "600 to 800 TFLOP/s",
    "narrow": "250 to 600 TFLOP/s",
    "flash": ("150 to 300 TFLOP/s", "150 to 250 TFLOP/s"),
    "cudnn": ("250 to 500 TFLOP/s", "200 to 400 TFLOP/s"),
}


def add_rows(table: Path, part: str, rows: list[Row]) -> None:
    """Append rows to the results (Markdown), and print them."""
    table.parent.mkdir(parents=True, exist_ok=True)
    head = [] if table.exists() else ["| part | what | measured | expected |", "| --- | --- | ---: | ---: |"]
    lines = head + [f"| {part} | {' | '.join(row)} |" for row in rows]
    with open(table, "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    print("\n".join(lines), flush=True)


def kernel(backend: SDPBackend) -> str:
    """Returns a kernel's short name: flash, cudnn, math."""
    return backend.name.removesuffix("_ATTENTION").lower()


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Returns the mean wall time of a call in seconds, after two calls that don't count."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for count in (2, repeats):
        wait()
        began = time.perf_counter()
        for _ in range(count):
            work()
        wait()
    return (time.perf_counter() - began) / repeats


def machine(device: torch.device) -> Iterator[Row]:
    """Yields versions, GPU, compilers, and the order in which PyTorch tries attention's kernels."""
    yield "Python", platform.python_version(), "3.11 or newer"
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            yield package, version(package), "2.11 or newer" if package == "torch" else ""
    yield "CUDA of torch", str(torch.version.cuda), "13.0 needs driver 580"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        size = f"{properties.total_memory / 1e9:.0f} GB"
        yield "GPU", f"{properties.name}, {size}, {properties.major}.{properties.minor}", "H100 or H200, 9.0"
    compilers = [name for name in ("gcc", "clang", "c++", "ninja", "nvcc") if shutil.which(name)]
    yield "compilers", ", ".join(compilers) or "none", "gcc or clang, else nothing is compiled"
    yield "CPUs of this process", str(len(os.sched_getaffinity(0))), ""
    order = [SDPBackend(int(number)) for number in torch._C._get_sdp_priority_order()]
    names = ", ".join(map(kernel, order))
    yield "attention is tried in this order", names, "the faster one below comes first"


def speeds(device: torch.device, size: str) -> Iterator[Row]:
    """Yields speeds of a copy, two products, and attention's kernels forward and backward, in bfloat16."""
    sequences, length, edge, elements, repeats = SIZES[size]
    bf16 = {"dtype": torch.bfloat16, "device": device}
    source, target = torch.empty(2, elements, **bf16)
    took = seconds(lambda: target.copy_(source), repeats, device)
    yield f"copy of {2e-9 * elements:.2g} GB", f"{4e-12 * elements / took:.3g} TB/s", EXPECTED["copy"]
    for name, rows, inner, columns in (
        ("square", edge, edge, edge),
        ("narrow", sequences * length, 576, 1_536),
    ):
        left, right = torch.randn(rows, inner, **bf16), torch.randn(inner, columns, **bf16)
        took = seconds(partial(torch.matmul, left, right), repeats, device)
        what = f"product {rows:,} x {inner:,} x {columns:,}"
        yield what, f"{2e-12 * rows * inner * columns / took:.3g} TFLOP/s", EXPECTED[name]
    # Every query head has its own keys: both kernels accept this in any version.
    inputs = torch.randn(3, sequences, HEADS, length, HEAD_SIZE, **bf16, requires_grad=True).unbind()
    attend = partial(scaled_dot_product_attention, *inputs, is_causal=True)
    flops = 2 * sequences * HEADS * length**2 * HEAD_SIZE  # of two causal products; the backward has five
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        label = f"{kernel(backend)} attention, {sequences} x {length:,}"
        try:
            with sdpa_kernel(backend):
                output = attend()
                differentiate = partial(
                    torch.autograd.grad, output, inputs, torch.ones_like(output), retain_graph=True
                )
                took = [seconds(work, repeats, device) for work in (attend, differentiate)]
        except RuntimeError as error:
            yield label, f"failed: {str(error).splitlines()[0][:90]}", EXPECTED[kernel(backend)][0]
            continue
        rates = [flops / took[0], 2.5 * flops / took[1]]
        for way, speed, expected in zip(
            ("forward", "backward"), rates, EXPECTED[kernel(backend)], strict=True
        ):
            yield f"{label}, {way}", f"{speed / 1e12:.3g} TFLOP/s", expected


def gpu_probe(
    table: Path, device: Literal["cuda", "cpu"] = "cuda", size: Literal["full", "tiny"] = "full"
) -> None:
    """Measure what training's speed depends on (versions, copy, products, attention), beside expected values.

    The expected speeds are those of one H100 or H200, by data sheets and published measurements of these
    kernels. Needs torch alone.

    Args:
        table: results to append to (Markdown).
        device: device to measure.
        size: size of the tensors; `tiny` tries the script itself.
    """
    chosen = torch.device(device)
    add_rows(table, "probe", list(machine(chosen)))
    for row in speeds(chosen, size):
        add_rows(table, "probe", [row])


if __name__ == "__main__":
    run(gpu_probe)
