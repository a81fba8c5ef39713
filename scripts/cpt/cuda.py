"""Checks whether PyTorch computes on this machine's GPUs, what they are, and how to fix it if not."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from cpt.errors import UserError

DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_DRIVERS = {12: 525, 13: 580}  # by CUDA's major version; NVIDIA's "minor version compatibility"
OTHER_BUILD = "make environment TORCH_INDEX=https://download.pytorch.org/whl/"  # and cu126, ...


def build() -> str:
    """Returns the installed version of PyTorch and what it was built for."""
    kinds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    kind = next((f"{name} {version}" for name, version in kinds.items() if version), "CPUs alone")
    return f"torch {torch.__version__}, built for {kind}"


def driver() -> str | None:
    """Returns the version of NVIDIA's driver, or None without a driver."""
    shown = DRIVER.read_text() if DRIVER.is_file() else ""
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", shown)
    return match[1] if match else None


def cuda_error() -> str | None:
    """Why PyTorch can't compute on a GPU here, and what to do; None if it can."""
    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()  # unlike is_available, it gives the reason
        reason = "no GPU answers"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(". ")
    installed, built = driver(), int((torch.version.cuda or "0").partition(".")[0])
    needed, major = OLDEST_DRIVERS.get(built, 0), int((installed or "0").partition(".")[0])
    if not installed:
        remedy = "start it on a node with a GPU, or set cpus instead of gpus in runs"
    elif major < OLDEST_DRIVERS[12]:
        remedy = f"update the driver to {OLDEST_DRIVERS[12]} or newer"
    elif not built or major < needed:
        index = "cu126" if major < OLDEST_DRIVERS[13] else "cu130"
        remedy = f"{OTHER_BUILD}{index} installs a build for this driver"
    else:
        remedy = "see whether nvidia-smi lists GPUs here, and whether CUDA_VISIBLE_DEVICES hides them"
    beside = f"; it needs driver {needed} or newer" if needed else ""
    return f"no CUDA: {reason} ({build()}{beside}; NVIDIA driver: {installed or 'none'}); {remedy}"


def require_cuda() -> None:
    """Raise UserError, for a config with gpus, if PyTorch can't compute on one."""
    if error := cuda_error():
        raise UserError(f"the config has gpus, so this job computes on one: {error}")


def gpus(count: int, bf16: bool) -> Iterator[tuple[bool, str]]:
    """Yields for each of `count` GPUs whether it computes what the CPU does, and its description or a remedy.

    Args:
        count: GPUs that a job asks for, at least 1.
        bf16: whether the job computes in bfloat16.
    """
    if error := cuda_error():
        yield False, error
        return
    if (seen := torch.cuda.device_count()) < count:
        yield False, f"{seen} GPU(s) are seen and {count} asked for; lower runs.*.gpus, or ask for more"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "none"
    for number in range(min(seen, count)):
        gpu = torch.cuda.get_device_properties(number)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        shown = (
            f"{number}: {gpu.name}, {gpu.total_memory / 1e9:.1f} GB, compute capability {gpu.major}."
            f"{gpu.minor}, bfloat16 {'yes' if native else 'no'}; {build()}; NVIDIA driver: "
            f"{driver() or 'none'}; NCCL {nccl}"
        )
        if error := product_error(torch.device("cuda", number)):
            yield False, f"{shown}: {error}; if its kernels are missing, {OTHER_BUILD}cu126 has older GPUs'"
        elif bf16 and not native:
            yield False, f"{shown}: bfloat16 would be emulated, which is slow; set precision: float32"
        else:
            yield True, f"{shown}; a product equals the CPU's"


def product_error(device: torch.device) -> str | None:
    """How a product of two float32 matrices on a device differs from the CPU's; None if it doesn't."""
    left, right = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    try:
        product = (left.to(device) @ right.to(device)).cpu()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    difference = ((product - left @ right).norm() / product.norm()).item()
    # TF32's factors have 10 bits; anything beyond is wrong.
    return None if difference < 1e-3 else f"a product differs from the CPU's by {difference:.1e}"
