"""The processes of a run: joined to one another, asked to stop, and locked out of one another's folder."""

import atexit
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from cpt.cpu import set_up_products
from cpt.errors import UserError

EXIT_INTERRUPTED = 75  # sysexits' EX_TEMPFAIL: a checkpoint is written, start again to resume


class Interruption:
    """Notices SIGTERM, SIGUSR1 (Slurm's warning), Ctrl-C where no launcher does, and the launcher's death, so
    that the loop can write a checkpoint and stop."""

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
        engine: "ddp", or one that needs a process group even of one.
        kind: "cuda" or "cpu" (one thread per process, which is faster there than several threads).

    Returns:
        (rank, world size, device).

    Raises:
        UserError: no GPU for this process.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if kind == "cuda":
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"the run asks for {world_size} GPU(s) and this machine offers {torch.cuda.device_count()}; "
                "lower runs.*.gpus, run on a GPU node (snakemake --profile slurm), or set cpus instead"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        torch.set_num_threads(1)
        set_up_products()
    if (world_size > 1 or engine != "ddp") and not dist.is_initialized():
        alone = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0",
            "RANK": "0",
            "WORLD_SIZE": "1",
            "LOCAL_RANK": "0",
        }
        os.environ.update({key: os.environ.get(key, value) for key, value in alone.items()})
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if world_size > 1:
        logging.info("process %d of %d runs on %s, %s", rank, world_size, socket.gethostname(), device)
    return rank, world_size, device


def end_at_once(code: int) -> None:
    """Let a process that torchrun started end with this exit code as soon as Python's work is done.

    Taking the interpreter apart beside the process group's threads aborts a process now and then ("terminate
    called without an active exception"), which has done its work, and torchrun would report a failure.
    """

    def end() -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit.register(end)


def leave_processes() -> None:
    """Leave the other processes at the end of a stage's work."""
    if dist.is_initialized():
        dist.destroy_process_group()
    end_at_once(0)


def lock(work: Path) -> FileLock:
    """Lock the work folder, so that no two attempts at a run write checkpoints at once.

    Waits for a former attempt that is still writing. The lock is held until the returned object is gone; the
    kernel frees a dead process's lock. Raises UserError if the folder can't be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        held = FileLock(work / "lock")
        try:
            held.acquire(blocking=False)
        except Timeout:
            logging.warning("another process is training in %s; waiting until it stops", work)
            held.acquire()
    except OSError as error:
        raise UserError(
            f"{work}: can't be written ({error.strerror}); checkpoints go there, so give yourself write "
            "access or set `results` to another folder"
        ) from error
    return held
