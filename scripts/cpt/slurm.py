"""What Slurm's commands tell of its jobs. Standard library only: rule files import it."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import UserError

JOB_PREFIX = "cpt"  # of job names; slurm-jobname-prefix in slurm/config.yaml


def answer(*command: str, seconds: float = 30) -> str | None:
    """What a command prints; None where it isn't installed, fails, or takes longer than so many seconds."""
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
    """The queued and running jobs that a workflow started in `folder`, which may be gone since.

    They are known by the prefix of their names and by their working directory.

    Raises UserError where Slurm doesn't tell: jobs that can't be seen may write the same files.
    """
    listed = answer("squeue", "--me", "--noheader", "--format=%i\t%T\t%j\t%k\t%Z")
    if listed is None:
        raise UserError(
            "squeue isn't found, fails or doesn't answer, so jobs that still run in this folder can't be "
            "seen; try again where and when it works"
        )
    found = []
    for line in listed.splitlines():
        number, state, name, comment, where = line.split("\t")
        if name.startswith(f"{JOB_PREFIX}_") and Path(where) == folder:
            found.append(Job(number, state, comment.removeprefix("rule_")))
    return found


def plan_table(requests: Sequence[tuple[str, Mapping[str, Any], int, bool]]) -> str:
    """What a workflow's jobs ask for, as a table by rule, and together.

    Args:
        requests: of each job its rule, its resources, its CPUs, and whether it runs on the login node.

    Returns:
        Of a rule: its jobs; the most nodes, GPUs, CPUs and memory (of each node, 10^9 bytes) of one job, and
        its longest time limit in hours; the GPU hours and CPU hours of all jobs if each used its whole limit,
        and the disk that they fill (10^9 bytes).
    """
    largest = ("nodes", "GPUs", "CPUs", "GB", "hours")
    summed = ("jobs", "GPU h", "CPU h", "disk GB")
    rows: dict[str, dict[str, float]] = {}
    for rule, asked, threads, local in requests:
        nodes = asked.get("nodes", 1)
        gpus = nodes * int(str(asked.get("gres") or asked.get("gpu") or 0).rpartition(":")[2])
        cpus = nodes * asked.get("cpus_per_task", threads)
        hours = asked.get("runtime", 0) / 60
        job = {
            "nodes": nodes,
            "GPUs": gpus,
            "CPUs": cpus,
            "GB": asked.get("mem_mb", 0) / 1000,
            "hours": hours,
        }
        job |= {"GPU h": gpus * hours, "CPU h": cpus * hours, "disk GB": asked.get("disk_mb", 0) / 1000}
        row = rows.setdefault(rule, dict.fromkeys(largest + summed, 0) | {"on login node": local})
        row["jobs"] += 1
        row |= {key: max(row[key], job[key]) for key in largest}
        row |= {key: row[key] + job[key] for key in summed[1:]}
    order = (summed[0], *largest, *summed[1:])
    lines = [f"{'rule':<22}" + "".join(f"{key:>9}" for key in order)]
    for rule, row in rows.items():
        told = {key: f"{row[key]:,.4g}" for key in order}
        if row["on login node"]:
            told |= dict.fromkeys(largest, "") | {"GPU h": "", "CPU h": "", "nodes": "login"}
        lines.append(f"{rule:<22}" + "".join(f"{told[key]:>9}" for key in order))
    totals = {key: f"{sum(row[key] for row in rows.values()):,.4g}" for key in summed}
    lines.append(f"{'together':<22}" + "".join(f"{totals.get(key, ''):>9}" for key in order))
    title = (
        "What the jobs would ask for. Hours are limits, not estimates; disk is 0 where it isn't known yet."
    )
    return "\n".join(["", title, *lines])
