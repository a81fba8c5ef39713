"""Which GPUs of a machine a job uses beside others of the same user. Standard library only."""

import logging
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TextIO

from cpt.locks import lock_file

# What may name a job's GPUs: CUDA's variable, which ROCm reads too, and ROCm's own (the last is Slurm's).
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
# Where none does: a program that lists a machine's GPUs, the beginning of its lines, and the variable to set.
# Parts of a divided GPU are indented.
PROGRAMS = (
    (["nvidia-smi", "--list-gpus"], r"^GPU (\d+):", "CUDA_VISIBLE_DEVICES"),
    (["rocm-smi", "--showid"], r"^GPU\[(\d+)\]", "HIP_VISIBLE_DEVICES"),
)
# A scheduler's job: another job's GPU may have the same number, since each is shown its own alone.
JOB = ("SLURM_JOB_ID", "LSB_JOBID", "LSB_JOBINDEX", "PBS_JOBID", "_CONDOR_JOB_AD", "KUBERNETES_SERVICE_HOST")
WAITING_SECONDS = 1.0
_claimed: list[TextIO] = []  # locked until the process ends


def _visible() -> tuple[str, list[str]]:
    """The variable that names GPUs, and the names of those that may be used; none where they aren't known."""
    for variable in VARIABLES:
        if variable in os.environ:
            return variable, [name for name in os.environ[variable].split(",") if name]
    for program, line, variable in PROGRAMS:
        try:
            output = subprocess.run(program, capture_output=True, text=True, timeout=60).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue
        if names := re.findall(line, output, re.MULTILINE):
            return variable, list(dict.fromkeys(names))
    return VARIABLES[0], []


def gpu_names() -> list[str]:
    """The names of the GPUs that may be used here; an empty list without any."""
    return _visible()[1]


def _lock(name: str) -> TextIO | None:
    """The locked file that stands for a GPU, or None if another process of this user has it."""
    # With the machine's name: the temporary folder may be one that all nodes of a job share.
    owner = [os.uname().nodename, str(os.getuid())]
    owner += [os.environ[variable] for variable in JOB if variable in os.environ]
    file = re.sub(r"[^\w-]", "_", "-".join(["cpt-gpu", *owner, name]))
    return lock_file(Path(tempfile.gettempdir()) / file)


def claim_gpus(count: int) -> None:
    """Take `count` GPUs that nothing else of this workflow or user has, waiting until there are, for the rest
    of this process and those that it starts: CUDA_VISIBLE_DEVICES, or ROCm's variable, then names them.

    Under a scheduler these are GPUs of the job, in which several processes may be started. Does nothing where
    there are fewer.
    """
    variable, names = _visible()
    if count > len(names):
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
    os.environ[variable] = ",".join(locks)
