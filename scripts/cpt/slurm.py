"""What Slurm's commands report of its jobs. Standard library only: rule files import it."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import UserError

JOB_PREFIX = "cpt"  # of job names; slurm-jobname-prefix in slurm/config.yaml


def answer(*command: str, seconds: float = 30) -> str | None:
    """Returns what a command prints; None if it isn't installed, fails, or takes longer than `seconds`."""
    if shutil.which(command[0]) is None:
        return None
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    return result.stdout if result.returncode == 0 else None


@dataclass(frozen=True)
class Job:
    """A job that is queued or running."""

    number: str
    state: str  # Slurm's, such as PENDING or RUNNING
    comment: str  # the rule and its wildcards


def stray_jobs(folder: Path) -> list[Job]:
    """Returns the queued and running jobs of a workflow started in `folder`, which may have ended since.

    They are recognised by the prefix of their names and by their working directory.

    Raises UserError if Slurm doesn't answer, because jobs that can't be seen may write the same files.
    """
    output = answer("squeue", "--me", "--noheader", "--format=%i\t%T\t%j\t%k\t%Z")
    if output is None:
        raise UserError(
            "squeue isn't found, fails or doesn't answer, so jobs that still run in this folder can't be "
            "seen; try again where and when it works"
        )
    jobs = []
    for line in output.splitlines():
        number, state, name, comment, where = line.split("\t")
        if name.startswith(f"{JOB_PREFIX}_") and Path(where) == folder:
            jobs.append(Job(number, state, comment.removeprefix("rule_")))
    return jobs


def living_workflow(folder: Path) -> int | None:
    """Returns the process number of a main Snakemake process on this machine in `folder`; None: none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            works_here = "--mode" not in words and (process / "cwd").readlink() == folder
        except OSError:
            continue  # another user's, or it has just ended
        if works_here and any(Path(word).name == "snakemake" for word in words[:4]):
            return int(process.name)
    return None


def plan_table(requests: Sequence[tuple[str, Mapping[str, Any], int, bool]]) -> str:
    """Returns a table of what a workflow's jobs ask for, by rule and in total.

    Args:
        requests: for each job its rule, resources, CPUs, and whether it runs on the login node.

    Returns:
        For each rule: the number of jobs; the maximum over jobs of nodes, GPUs, CPUs, memory (of each node,
        10^9 bytes) and time limit (hours); the sum over jobs of GPU hours and CPU hours, if each used its
        whole limit, and of disk (10^9 bytes).
    """
    largest, hours_used = ("nodes", "GPUs", "CPUs", "GB", "hours"), ("GPU h", "CPU h")
    order = ("jobs", *largest, *hours_used, "disk GB")
    rows: dict[str, dict[str, float]] = {}
    for rule, resources, threads, _ in requests:
        nodes, hours = resources.get("nodes", 1), resources.get("runtime", 0) / 60
        gpus = nodes * resources.get("gpus_per_node", 0)
        cpus = nodes * resources.get("cpus_per_task", threads)
        memory, disk = resources.get("mem_mb", 0) / 1000, resources.get("disk_mb", 0) / 1000
        job = {"jobs": 1, "nodes": nodes, "GPUs": gpus, "CPUs": cpus, "GB": memory, "hours": hours}
        job |= {"GPU h": gpus * hours, "CPU h": cpus * hours, "disk GB": disk}
        row = rows.setdefault(rule, dict.fromkeys(job, 0))
        row |= {key: max(row[key], job[key]) if key in largest else row[key] + job[key] for key in job}
    printed = {"rule": dict(zip(order, order, strict=True))}
    printed |= {rule: {key: f"{row[key]:,.4g}" for key in order} for rule, row in rows.items()}
    for rule in {rule for rule, _, _, on_login_node in requests if on_login_node}:
        printed[rule] |= dict.fromkeys((*largest, *hours_used), "") | {"nodes": "login"}
    summed = [key for key in order if key not in largest]
    printed["together"] = {key: f"{sum(row[key] for row in rows.values()):,.4g}" for key in summed}
    title = (
        "What the jobs would ask for. Hours are limits, not estimates; disk is 0 where it isn't known yet."
    )
    lines = [
        f"{name:<22}" + "".join(f"{texts.get(key, ''):>9}" for key in order)
        for name, texts in printed.items()
    ]
    return "\n".join(["", title, *lines])
