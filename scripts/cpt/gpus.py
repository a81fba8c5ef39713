"""Which GPUs of a machine a job uses where no scheduler deals them out. Standard library only."""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TextIO

SCHEDULERS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "_CONDOR_JOB_AD", "KUBERNETES_SERVICE_HOST")
WAITING_SECONDS = 1.0
_claimed: list[TextIO] = []  # locked until the process ends


def _visible() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; empty where that isn't known."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    # Parts of a divided GPU are indented.
    gpus = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(gpus))]


def _lock(name: str) -> TextIO | None:
    """The locked file that stands for a GPU, or None if another job of this user has it."""
    # Not filelock's: the program that this process becomes (execv) has to keep the lock.
    file = open(Path(tempfile.gettempdir()) / f"cpt-gpu-{os.getuid()}-{name}", "w")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def claim_gpus(count: int) -> None:
    """Take `count` GPUs that no other job of this workflow or user has, waiting until there are, for the rest
    of this process and those that it starts: CUDA_VISIBLE_DEVICES then names them.

    Does nothing under a scheduler, which has dealt them out, and where there are fewer.
    """
    names = _visible()
    if any(variable in os.environ for variable in SCHEDULERS) or count > len(names):
        return
    warned = False
    while True:
        locks: dict[str, TextIO] = {}
        for name in names:
            if len(locks) < count and (file := _lock(name)) is not None:
                locks[name] = file
        if len(locks) == count:
            break
        for file in locks.values():
            file.close()
        if not warned:
            logging.warning("waiting for %d free GPU(s) of %d", count, len(names))
            warned = True
        time.sleep(WAITING_SECONDS)
    for file in locks.values():
        os.set_inheritable(file.fileno(), True)  # also by the program that this process may become
    _claimed.extend(locks.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
