import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cpt.command import run
from cpt.errors import UserError
from cpt.files import write_text

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ("--profile", "slurm")
JOB = "filter_documents"


class Measured(NamedTuple):
    """What a process took: CPU time of all its threads, its peak memory, and what it printed."""

    seconds: float
    megabytes: float
    printed: str


def dry_run(shards: int, results: Path) -> list[str]:
    """Returns Snakemake's options to plan the paper's experiment with `shards` shards, none of them done."""
    corpus = f"corpora={{fineweb_edu: {{shards: {shards}}}}}"
    return ["--dry-run", "--quiet", "rules", "--config", f"results={results}", corpus]


def start_of_job(shards: int, results: Path) -> list[str]:
    """Returns the options of the Snakemake that starts inside a Slurm job, for one shard's job alone."""
    target = ["--target-jobs", f"{JOB}:corpus=fineweb_edu,shard=00003", "--allowed-rules", JOB, "--force"]
    return [*dry_run(shards, results), *target, "--mode", "remote", "--nolock", "--cores", "1"]


def run_snakemake(options: Sequence[str]) -> Measured:
    """Run Snakemake in the project's folder. Raises UserError if it fails."""
    command = [sys.executable, "-m", "snakemake", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)} failed: {printed[-1_000:]}")
    return Measured(used.ru_utime + used.ru_stime, used.ru_maxrss / 1_000, printed)


def planning(table: Path, shards: Sequence[int] = (14, 200, 1_000, 2_000)) -> None:
    """Measure planning of the paper's experiment with many shards, and the start of one of their jobs.

    The table has CPU seconds of a dry run for Slurm and of one for this machine, the first one's peak memory
    and number of jobs, and CPU seconds of the Snakemake inside a Slurm job for one shard. No data is read.

    Args:
        table: a row for each number of shards (.md), to write.
        shards: numbers of shards.
    """
    rows = [
        "| shards | jobs | `--profile slurm`, CPU s | peak MB | without it, CPU s | start of a job, CPU s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory(prefix="bench-planning.") as folder:
        results = Path(folder, "results")
        for count in shards:
            plan = run_snakemake([*dry_run(count, results), *CLUSTER])
            here, start = run_snakemake(dry_run(count, results)), run_snakemake(start_of_job(count, results))
            jobs = re.findall(r"^total +(\d+)$", plan.printed, re.MULTILINE)[-1]
            rows.append(
                f"| {count:,} | {int(jobs):,} | {plan.seconds:.1f} | {plan.megabytes:.0f} "
                f"| {here.seconds:.1f} | {start.seconds:.1f} |"
            )
            logging.info(rows[-1])
    write_text(table, "\n".join(rows) + "\n")


if __name__ == "__main__":
    run(planning)
