"""The choice of free GPUs among several jobs of one user on a machine. Standard library only."""

import logging
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TextIO

from cpt.locks import lock_file

# Variables that may name a job's GPUs: CUDA's, which ROCm also reads, and ROCm's own (Slurm sets the last).
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
# If none is set: a program that lists a machine's GPUs, the beginning of its lines, and the variable to set.
# The program indents parts of a divided GPU, which therefore don't match.
PROGRAMS = (
    (["nvidia-smi", "--list-gpus"], r"^GPU (\d+):", "CUDA_VISIBLE_DEVICES"),
    (["rocm-smi", "--showid"], r"^GPU\[(\d+)\]", "HIP_VISIBLE_DEVICES"),
)
# Variables that name a scheduler's job. Each job sees only its own GPUs, so two jobs may see the same number.
JOB = ("SLURM_JOB_ID", "LSB_JOBID", "LSB_JOBINDEX", "PBS_JOBID", "_CONDOR_JOB_AD", "KUBERNETES_SERVICE_HOST")
WAITING_SECONDS = 1.0
_claimed: list[TextIO] = []  # locked until the process ends


def _visible() -> tuple[str, list[str]]:
    """Returns the variable that names GPUs, and the names of the usable GPUs; [] if they aren't known."""
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
    """Returns the names of the GPUs that may be used here; [] without any."""
    return _visible()[1]


def _lock(name: str) -> TextIO | None:
    """Returns the locked file that stands for a GPU, or None if another process of this user has it."""
    # The name includes the machine's, because all nodes of a job may share the temporary folder.
    owner = [os.uname().nodename, str(os.getuid())]
    owner += [os.environ[variable] for variable in JOB if variable in os.environ]
    file = re.sub(r"[^\w-]", "_", "-".join(["cpt-gpu", *owner, name]))
    return lock_file(Path(tempfile.gettempdir()) / file)


def claim_gpus(count: int) -> None:
    """Claim `count` GPUs that no other process of this user has claimed; waits until they are free.

    The claim holds for this process and those that it starts: CUDA_VISIBLE_DEVICES, or ROCm's variable, names
    the GPUs. Under a scheduler they are GPUs of the job, which may start several processes. Does nothing if
    fewer GPUs are usable.
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
        os.set_inheritable(file.fileno(), True)  # so that a program started by exec keeps the lock
    _claimed.extend(locks.values())
    os.environ[variable] = ",".join(locks)
