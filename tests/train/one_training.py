"""A training to start, stop and look at: scripts/train.py for real, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pretended_gpu
import psutil
import pytest
import torch
from packed_mixture import LENGTH
from train_settings import TRAIN, planned

from cpt.files import write_json
from cpt.stage import arguments

VOCABULARY = 101
without_cuda = pytest.mark.skipif(
    torch.version.cuda is not None, reason=f"NOT TESTED: {pretended_gpu.NEEDS_NO_CUDA}"
)


def end(processes: list[psutil.Process]) -> None:
    """SIGKILL processes, some of which may have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)


class Training:
    """One run of scripts/train.py in its own folder."""

    def __init__(self, folder: Path, model: Path, packed: Path, **changes):
        self.folder, self.model, self.packed = folder, model, packed
        self.changed(**changes)

    def changed(self, tokens: int = 118 * LENGTH, **changes) -> "Training":
        """Plan again with other settings."""
        write_json(self.folder / "plan.json", planned(tokens, self.packed, **changes))
        return self

    @property
    def checkpoints(self) -> list[Path]:
        return sorted((self.folder / "work" / "checkpoints").glob("step-*"))

    @property
    def command(self) -> list[str]:
        """The script and its arguments."""
        words = arguments(
            plan=self.folder / "plan.json",
            packed=[self.packed],
            start=self.model,
            work=self.folder / "work",
            model=self.folder / "model",
            metrics=self.folder / "metrics.csv",
            held_out_losses=self.folder / "held_out.csv",
            document_losses=self.folder / "held_out_documents.csv",
            summary=self.folder / "run.json",
            device="cpu",
            log=self.folder / "log",
        )
        return [str(TRAIN), *words]

    @property
    def last_step(self) -> int:
        """The step of the last whole row of the growing metrics.csv."""
        path = self.folder / "work" / "metrics.csv"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return int(number) if (number := whole.rpartition("\n")[2].split(",")[0]).isdigit() else 0

    def remove_outputs(self) -> None:
        """Remove the outputs, as Snakemake does before an attempt."""
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        for output in ("metrics.csv", "run.json"):
            (self.folder / output).unlink(missing_ok=True)

    def start(self, processes: int) -> psutil.Popen:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--"]
        command = [sys.executable, *(launcher if processes > 1 else []), *self.command]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return psutil.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def finish(self, processes: int) -> "Training":
        process = self.start(processes)
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == 0, errors + (self.folder / "log").read_text()[-3000:]
        return self

    def hold(
        self, step: int, start: Callable[["Training", int], psutil.Popen], processes: int
    ) -> list[psutil.Process]:
        """Suspend the run after the checkpoint of a step; returns the process from `start` and its children.

        The whole run takes less than a second: if it got too far meanwhile, it starts from nothing.
        """
        checkpoint = self.folder / "work" / "checkpoints" / f"step-{step:08d}"
        for _ in range(5):
            started, deadline = start(self, processes), time.monotonic() + 240
            while not checkpoint.exists() and started.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            everyone = [started]
            with suppress(psutil.NoSuchProcess):
                everyone += started.children(recursive=True)
                for process in everyone:
                    process.suspend()
                if checkpoint.exists() and self.last_step <= step + 10:
                    return everyone
            end(everyone)
            shutil.rmtree(self.folder / "work", ignore_errors=True)
            self.remove_outputs()
        raise AssertionError(f"not held after step {step}: " + (self.folder / "log").read_text()[-3000:])

    def kill(self, processes: int, step: int, orphans: bool = False) -> None:
        """SIGKILL all processes after the checkpoint of a step, or with `orphans` only the launcher."""
        launcher, *others = self.hold(step, Training.start, processes)
        end([launcher] if orphans else [launcher, *others])
        for orphan in others if orphans else []:
            orphan.resume()

    @property
    def metrics(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "metrics.csv")

    @property
    def weights(self) -> bytes:
        return (self.folder / "model" / "model.safetensors").read_bytes()
