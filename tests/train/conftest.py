"""A tiny model, packed data and a plan to train on, and a way to start scripts/train.py for real."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pretended_gpu
import psutil
import pytest
import setuptools  # noqa: F401 (what compiles needs it, and it can't be loaded once other tests have loaded distutils)
import torch
from packed_mixture import LENGTH, write_packed
from train_settings import TRAIN, planned
from transformers import LlamaConfig, LlamaForCausalLM

from cpt.files import write_json
from cpt.stage import arguments

without_cuda = pytest.mark.skipif(
    torch.version.cuda is not None, reason=f"NOT TESTED: {pretended_gpu.NEEDS_NO_CUDA}"
)

SEQUENCES, VOCABULARY = 150, 101


def end(processes: list[psutil.Process]) -> None:
    """SIGKILL; some may be gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A random Llama with tied embeddings and grouped-query attention."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=33 * 2,  # not a multiple of the number of ranks, so that ZeRO-3 must pad
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=22,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def packed_folder(tmp_path_factory) -> Path:
    """Packed sequences with something to learn: slowly rising token ids."""
    rises = np.random.default_rng(0).integers(0, 3, (SEQUENCES, LENGTH))
    sequences = (np.cumsum(rises, axis=1) % VOCABULARY).tolist()
    return write_packed(tmp_path_factory.mktemp("packed"), [[sequence] for sequence in sequences])


@pytest.fixture(scope="session")
def documents() -> list[list[list[int]]]:
    """Documents by sequence: 1 to 30 tokens that rise slowly, until a sequence is about full."""
    generator = np.random.default_rng(1)
    sequences = []
    for _ in range(SEQUENCES):
        room, sequence = LENGTH, []
        while (size := int(generator.integers(1, 31))) <= room:
            rising = np.cumsum(generator.integers(0, 3, size)) + generator.integers(0, VOCABULARY)
            sequence.append((rising % VOCABULARY).tolist())
            room -= size
        sequences.append(sequence)
    return sequences


@pytest.fixture(scope="session")
def packed_documents(tmp_path_factory, documents) -> Path:
    """The documents packed, with padding in nearly every sequence."""
    return write_packed(tmp_path_factory.mktemp("packed_documents"), documents)


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
        """The last whole row of the growing metrics.csv."""
        path = self.folder / "work" / "metrics.csv"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return int(number) if (number := whole.rpartition("\n")[2].split(",")[0]).isdigit() else 0

    def remove_outputs(self) -> None:
        """As Snakemake does before an attempt."""
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        for output in ("metrics.csv", "run.json"):
            (self.folder / output).unlink(missing_ok=True)

    def start(self, processes: int) -> psutil.Popen:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--"]
        command = [sys.executable, *(launcher if processes > 1 else []), *self.command]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return psutil.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def finish(self, processes: int = 1) -> "Training":
        process = self.start(processes)
        errors = process.communicate(timeout=240)[1]
        assert process.returncode == 0, errors + (self.folder / "log").read_text()[-3000:]
        return self

    def hold(
        self, step: int, start: Callable[["Training", int], psutil.Popen], processes: int
    ) -> list[psutil.Process]:
        """Suspend the run after the checkpoint of a step: what start(self, processes) gave, its children.

        The whole run takes less than a second: where it got too far meanwhile, it starts from nothing.
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
        """SIGKILL all processes after the checkpoint of a step, or with `orphans` the launcher alone."""
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


@pytest.fixture(scope="session")
def dropout_model(tmp_path_factory, model_folder) -> Path:
    """The same model with dropout, so that training depends on the state of the random numbers too."""
    folder = tmp_path_factory.mktemp("dropout_model") / "model"
    model = LlamaForCausalLM.from_pretrained(model_folder)
    model.config.attention_dropout = 0.1
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def training(tmp_path, model_folder, packed_folder):
    """Make a Training in a fresh folder: training("name", **changed settings)."""
    return lambda name="run", packed=packed_folder, **changes: Training(
        tmp_path / name, model_folder, packed, **changes
    )


@pytest.fixture(scope="session")
def gpu(tmp_path_factory) -> Callable[..., dict[str, str]] | None:
    """The environment of a GPU that isn't there: gpu(size=bytes of its memory). None with CUDA."""
    if torch.version.cuda is not None:
        return None
    folder = tmp_path_factory.mktemp("pretended_gpu")
    return lambda **options: pretended_gpu.environment(folder, **options) | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def on_gpu(gpu) -> Callable[..., str]:
    """Run a Training, or another script, on a GPU that isn't there; what it prints."""

    def start(run: Any, status: int = 0, **options: int) -> str:
        command = [word.replace("--device=cpu", "--device=cuda") for word in run.command]
        environment = gpu(**options)
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return start


@pytest.fixture(scope="session")
def reference(tmp_path_factory, model_folder, packed_folder) -> Training:
    """An undisturbed run of one process with the plain engine."""
    return Training(tmp_path_factory.mktemp("reference") / "run", model_folder, packed_folder).finish()


@pytest.fixture(scope="session")
def reference_of_two(tmp_path_factory, model_folder, packed_folder) -> Training:
    """The same run on two processes."""
    return Training(tmp_path_factory.mktemp("reference_of_two") / "run", model_folder, packed_folder).finish(
        2
    )
