"""Memory of the training processes: what is free, what to do when it runs out, how much a step may take."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cpt.cpu import give_back_memory
from cpt.digest import settings_digest
from cpt.errors import UserError
from cpt.files import read_json, write_json
from cpt.sizes import micro_batches

# Messages of PyTorch's allocators that raise a plain RuntimeError when memory runs out.
OUT_OF_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE
)
# Share of memory that an automatic micro-batch may fill: fragmentation and later allocations need the rest.
GPU_SHARE, CPU_SHARE = 0.92, 0.8


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def available_bytes() -> int:
    """Bytes that the run's processes on this machine may still allocate.

    The least of the kernel's available memory, of what its control groups (a Slurm job, a container) have
    left, and of Slurm's grant (SLURM_MEM_PER_NODE or SLURM_MEM_PER_CPU, in MiB) less what the processes hold.
    """
    text = Path("/proc/meminfo").read_text()
    free_bytes: list[int | None] = [int(re.search(r"MemAvailable:\s+(\d+) kB", text)[1]) * 1024]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.lstrip("/")
        free_bytes += [_left_in(folder, *names) for folder in (group, *group.parents)]
    granted = int(os.environ.get("SLURM_MEM_PER_NODE", 0))
    granted = granted or int(os.environ.get("SLURM_MEM_PER_CPU", 0)) * int(
        os.environ.get("SLURM_CPUS_ON_NODE", 1)
    )
    if granted:
        free_bytes.append(granted * 2**20 - _resident("VmRSS") * local_processes())
    return max(0, min(left for left in free_bytes if left is not None))


def local_processes() -> int:
    """Number of training processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _left_in(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Bytes that a control group has left, including droppable file cache; None if it has no limit."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        droppable = re.search(rf"^{cache} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return None if most == "max" else int(most) - used + (int(droppable[1]) if droppable else 0)


def _resident(field: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or the peak since it was last reset (VmHWM)."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def smaller_micro_batch(micro_batch: int, accumulate: int) -> tuple[int, int]:
    """Returns (micro_batch, accumulate) with the same product and a micro-batch at most half as large."""
    product = micro_batch * accumulate
    smaller = next(size for size in range(micro_batch // 2, 0, -1) if product % size == 0)
    return smaller, product // smaller


def advice(settings: dict[str, Any], global_batch: int, world_size: int) -> str:
    """Advice on making a step smaller without changing what it learns (`moments` changes it slightly)."""
    share = -(-global_batch // world_size)
    ways = []
    micro_batch = 1 if settings["micro_batch"] == "auto" else min(settings["micro_batch"], share)
    if micro_batch > 1:
        smaller, accumulate = smaller_micro_batch(micro_batch, -(-share // micro_batch))
        ways.append(
            f"train.micro_batch: {smaller} with train.accumulate: {accumulate} (not needed where "
            f"train.global_batch is set); the global batch stays {global_batch}"
        )
    if not settings["gradient_checkpointing"]:
        ways.append("train.gradient_checkpointing: selective, which costs little time, or true")
    elif settings["gradient_checkpointing"] == "selective":
        ways.append("train.gradient_checkpointing: true")
    if settings["engine"] == "ddp":
        ways.append("train.engine: deepspeed with train.offload: [optimizer, parameters]")
    if settings["engine"] != "deepspeed" and settings["moments"] == "float32":
        ways.append(
            "train.moments: 8bit, a quarter of the optimizer's memory, which changes the losses a little"
        )
    ways.append("a device with more memory")
    return "set " + "; or ".join(ways)


@contextmanager
def explain_memory_errors(
    plan: dict[str, Any], settings: dict[str, Any], rank: int, world_size: int, device: torch.device
) -> Iterator[None]:
    """Turn out-of-memory errors into a UserError: what was requested, what is free, which keys to set."""
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            place = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free on {device}"
        else:
            place = f"{available_bytes() / 1e9:.1f} GB are free"
        match = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
        message = (
            f"runs.{plan['run']}: out of memory on process {rank} of {world_size}: "
            f"{match[1] + ' more were needed, ' if match else ''}{place}; "
            f"{advice(settings, plan['global_batch'], world_size)}"
        )
        if rank != 0:  # the others' errors stay in the log, but this may be the only process that ran out
            logging.critical("error: %s", message)
        raise UserError(message) from error


def find_micro_batch(
    trial: Callable[[int], None], share: int, later_bytes: int, device: torch.device
) -> int | None:
    """The largest micro-batch that fits on every process: `share` itself or a power of two below it.

    On a GPU, sizes are tried from large to small. A CPU's process would be killed without an error, so the
    growth by one sequence is measured, and this machine's processes share what is available.

    Args:
        trial: runs a forward and backward pass of this number of full sequences, without any lasting effect.
        share: sequences of the global batch per process.
        later_bytes: bytes that the first step will allocate permanently (AdamW's moments).
        device: of this process.

    Returns:
        The size, the same on all processes; None if not even one sequence fits.
    """
    sizes = micro_batches(share)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        fitting = _fitting_on_gpu if device.type == "cuda" else _fitting_on_cpu
        micro_batch = fitting(trial, sizes, later_bytes, device)
    least = torch.tensor(micro_batch or 0, device=device)
    if dist.is_initialized():
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return next((size for size in sizes if size <= least.item()), None)


def _fitting_on_gpu(
    trial: Callable[[int], None], sizes: list[int], later_bytes: int, device: torch.device
) -> int | None:
    total = torch.cuda.get_device_properties(device).total_memory
    for size in sizes:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            trial(size)
        except Exception as error:
            if not ran_out(error):
                raise
            continue
        if torch.cuda.max_memory_reserved(device) + later_bytes <= GPU_SHARE * total:
            torch.cuda.empty_cache()
            return size
    return None


def _fitting_on_cpu(
    trial: Callable[[int], None], sizes: list[int], later_bytes: int, device: torch.device
) -> int | None:
    give_back_memory()  # else a sequence could reuse memory left from loading, and seem smaller
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak, VmHWM, to what is resident now
    except OSError as error:
        raise UserError(
            f"train.micro_batch: auto can't measure memory here ({error}); set a number"
        ) from None
    before = _resident("VmRSS")
    trial(1)
    growth = max(1, _resident("VmHWM") - before)
    give_back_memory()
    if dist.is_initialized():
        dist.barrier()  # all have measured, so all see the same memory as available
    available = CPU_SHARE * available_bytes() / local_processes() - later_bytes
    logging.info("a sequence takes %.1f MB, of %.1f MB per process", growth / 1e6, available / 1e6)
    return next((size for size in sizes if size * growth <= available), None)


def chosen_micro_batch(
    work: Path,
    plan: dict[str, Any],
    trial: Callable[[int], None],
    later_bytes: int,
    world_size: int,
    device: torch.device,
) -> int:
    """The micro-batch of a run with `train.micro_batch: auto`.

    The work folder keeps it, since another micro-batch sums in another order: a run that resumes with
    the same settings and number of processes uses the same. `trial` and `later_bytes`: see find_micro_batch.

    Raises UserError if not even one sequence fits.
    """
    path = work / "micro_batch.json"
    key = {"plan": settings_digest(plan), "processes": world_size, "device": device.type}
    record = read_json(path) if path.exists() else {}
    if world_size > 1:
        shared = [record]
        dist.broadcast_object_list(shared, src=0)
        record = shared[0]
    if record.get("for") == key:
        return record["micro_batch"]
    share = -(-plan["global_batch"] // world_size)
    micro_batch = find_micro_batch(trial, share, later_bytes, device)
    if micro_batch is None:
        one = plan["learning"] | plan["execution"] | {"micro_batch": 1}
        raise UserError(
            f"runs.{plan['run']}: not even one sequence fits into memory; "
            f"{advice(one, plan['global_batch'], world_size)}"
        )
    if os.environ.get("RANK", "0") == "0":
        logging.info("micro-batch found: %d of at most %d sequences per process", micro_batch, share)
        write_json(path, {"for": key, "micro_batch": micro_batch})
    return micro_batch
