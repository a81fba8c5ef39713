"""The processes of a run: how they start together, stop when asked, and lock the work folder."""

import atexit
import itertools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TextIO

import torch
import torch.distributed as dist

from cpt.cpu import keep_freed_memory, set_up_products
from cpt.cuda import cuda_error
from cpt.errors import UserError
from cpt.locks import lock_file

EXIT_INTERRUPTED = 75  # sysexits' EX_TEMPFAIL: a checkpoint is written, start again to resume
# How long processes wait for one another. An earlier attempt's lock or a slow disk may delay the first.
PATIENCE = timedelta(hours=2)
POLL_SECONDS = 0.1
ALONE = {
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
}
_waits = itertools.count()  # counts the waits for the first process; the same on all processes


def stop_when_asked() -> None:
    """Exit with EXIT_INTERRUPTED as soon as the launcher or Slurm asks, if nothing is left to write."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: sys.exit(EXIT_INTERRUPTED))


class Interruption:
    """Notices SIGTERM, SIGUSR1 (Slurm's warning), Ctrl-C if there is no launcher, and the launcher's death,
    so that the loop can write a checkpoint and stop."""

    def __init__(self) -> None:
        self.noticed = False
        self.parent = os.getppid()
        alone = () if "RANK" in os.environ else (signal.SIGINT,)
        for number in (signal.SIGTERM, signal.SIGUSR1, *alone):
            signal.signal(number, self._notice)

    def _notice(self, *_: object) -> None:
        self.noticed = True

    def on_any_process(self, device: torch.device) -> bool:
        """Whether any process was asked to stop; a collective operation, so all agree on the step."""
        orphaned = "RANK" in os.environ and os.getppid() != self.parent
        flag = torch.tensor(int(self.noticed or orphaned), device=device)
        if dist.is_initialized():
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


def start_processes(engine: str, kind: str) -> tuple[int, int, torch.device]:
    """Join the other processes that torchrun started, if any.

    Args:
        engine: "ddp", or one that needs a process group even for one process.
        kind: "cuda" or "cpu" (one thread per process, which is faster there than several threads).

    Returns:
        (rank, world size, device).

    Raises:
        UserError: no GPU for this process.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if kind == "cuda":
        local_rank, error = int(os.environ.get("LOCAL_RANK", 0)), cuda_error()
        offered = 0 if error else torch.cuda.device_count()
        if local_rank >= offered:
            remedy = "lower runs.*.gpus, run on a GPU node (snakemake --profile slurm), or set cpus instead"
            raise UserError(
                f"the run asks for {world_size} GPU(s) and this machine offers {offered}; {error or remedy}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        torch.set_num_threads(1)
        set_up_products()
        keep_freed_memory()
    if (world_size > 1 or engine != "ddp") and not dist.is_initialized():
        if "RANK" not in os.environ:
            os.environ.update(ALONE)
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None
        )
        if rank == 0:
            atexit.register(wait_for_first)
    if world_size > 1:
        logging.info("process %d of %d runs on %s, %s", rank, world_size, socket.gethostname(), device)
    return rank, world_size, device


def end_at_once(code: int) -> None:
    """Let a process that torchrun started end with this exit code as soon as Python's work is done.

    Shutting the interpreter down beside the process group's threads sometimes aborts a process ("terminate
    called without an active exception") after its work is done, and torchrun would report a failure.
    """

    def end() -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit.register(end)


def wait_for_first() -> None:
    """Wait until the first process has finished its own work, such as writing a checkpoint.

    The first process signals this by calling this function too, or by ending. If another process exited with
    an error before, torchrun would kill the first after 30 seconds, and srun might sooner. In a collective
    operation, the others might wait PATIENCE for a process that died.
    """
    if not dist.is_initialized():
        return
    key = f"cpt/first/{next(_waits)}"
    with suppress(RuntimeError):  # the store went with the first process, or its launcher
        store = dist.distributed_c10d._get_default_store()
        if dist.get_rank() == 0:
            store.set(key, "")
        while not store.check([key]):
            time.sleep(POLL_SECONDS)


def leave_processes() -> None:
    """Leave the process group at the end of a stage's work, all processes at once."""
    wait_for_first()
    if dist.is_initialized():
        dist.destroy_process_group()
    end_at_once(0)


def lock(work: Path, stopped: Callable[[], bool]) -> TextIO:
    """Lock the work folder, so that no two attempts at a run write checkpoints at once.

    Waits for an earlier attempt that is still writing; exits with EXIT_INTERRUPTED if `stopped()` is true.
    The lock is held as long as the returned object exists; the kernel frees a dead process's lock. Raises
    UserError if the folder can't be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        if (held := lock_file(work / "lock")) is not None:
            return held
        logging.warning("another process is training in %s; waiting until it stops", work)
        while (held := lock_file(work / "lock")) is None:
            if stopped():
                logging.warning("interrupted while waiting; start again to resume")
                end_at_once(EXIT_INTERRUPTED)
                sys.exit(EXIT_INTERRUPTED)
            time.sleep(POLL_SECONDS)
    except OSError as error:
        raise UserError(
            f"{work}: can't be written ({error.strerror}); checkpoints go there, so give yourself write "
            "access or set `results` to another folder"
        ) from error
    return held
