"""Starts scripts/probe.py in a Slurm job of each kind, or on this machine, and collects its findings."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpt.config import Config
from cpt.probe import Finding
from cpt.stage import arguments

SCRIPT = Path(__file__).resolve().parents[1] / "probe.py"
WAITING_SECONDS = 180  # a job of a minute may take this long to start and end
# Slurm checks limits twice a minute and may warn a minute too early: with these limits, at the first check.
JOB_LIMIT = ["--time=2", "--signal=TERM@120"]
WARNED_SECONDS = 90


def needs_of(runs: Sequence[str], gpus: int, mem_mb: int, config: Config) -> dict[str, Any]:
    """Returns what to test in jobs of a kind: parameters of scripts/probe.py.

    Args:
        runs: the runs that jobs of this kind train.
        gpus: GPUs of a node; if there are any, models are also scored on them.
        mem_mb: memory of a node that jobs ask for; 0 if none is asked for.
        config: the merged config.
    """
    settings = [config.train_settings(run) for run in runs] if gpus else []
    return {
        "gpus": gpus,
        "bf16": bool(gpus) and "bf16" in {config.evaluate.precision, *(each.precision for each in settings)},
        "c_compiler": any(each.compile for each in settings),
        "cpu_adam": any(each.engine == "deepspeed" and "optimizer" in each.offload for each in settings),
        "mem_mb": mem_mb,
    }


class ProbeJob:
    """A started probe, in a Slurm job or on this machine.

    Args:
        where: the place where it runs, for messages.
        needs: see needs_of.
        results: folder of the results.
        srun: srun's options for a job like those to be submitted; None: on this machine.
        warned: whether such jobs need Slurm's warning before their end.
    """

    def __init__(
        self, where: str, needs: dict[str, Any], results: Path, srun: Sequence[str] | None, warned: bool
    ):
        self.where, self.submitted, self.secret = where, srun is not None, secrets.token_hex(8)
        results.mkdir(parents=True, exist_ok=True)
        self.greeting = (results / f".preflight-{self.secret}").resolve()
        self.greeting.write_text(self.secret)
        within = WARNED_SECONDS if warned and srun is not None else 0
        command = [sys.executable, str(SCRIPT)]
        command += arguments(greeting=self.greeting, warned_within=within, **needs)
        if srun is not None:  # if an option is given twice, srun uses the last
            alone = ["--quiet", "--job-name=preflight", "--ntasks=1", "--nodes=1", *JOB_LIMIT]
            command = ["srun", *srun, *alone, *command]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """Wait for the probe's end, and yield its findings."""
        try:
            printed, messages = self.process.communicate(timeout=WAITING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.terminate()  # srun then cancels the job
            self.process.communicate()
            text = f"no node of {self.where} was free within {WAITING_SECONDS} s; try again later"
            yield "jobs", (None, text)
            return
        finally:
            self.greeting.unlink()
        results = [(name, (good, text)) for name, good, text in _lines(printed)]
        reason = (messages.strip().splitlines() or ["no message"])[-1]
        if ("greeting", (True, self.secret)) not in results:
            text = (
                f"a job in {self.where} doesn't see {self.greeting.parent} or {sys.executable} ({reason}); "
            )
            text += "put the clone with its .venv on a file system that login and compute nodes share"
            yield "shared folder", (False, text)
            return
        if self.submitted:
            yield "shared folder", (True, f"jobs in {self.where} see this folder and this Python")
        for name, (good, text) in results:
            if name != "greeting":
                yield name, (good, f"{self.where}: {text}")
        if self.process.returncode:
            yield "jobs", (False, f"{self.where}: the probe failed ({reason}); report it with that message")


def _lines(printed: str) -> Iterator[list[Any]]:
    """Yields the probe's lines, and skips other lines that a site may print at a job's start."""
    for line in printed.splitlines():
        with suppress(ValueError):
            if isinstance(fields := json.loads(line), list) and len(fields) == 3:
                yield fields
