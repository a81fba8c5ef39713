"""A tiny model, packed data to train on, undisturbed trainings, and a GPU that isn't there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pretended_gpu
import pytest
import setuptools  # noqa: F401 (compiling needs it, and it must load before other tests' distutils)
import torch
from forked import Session
from one_training import VOCABULARY, Training
from packed_mixture import LENGTH, write_packed
from transformers import LlamaConfig, LlamaForCausalLM

SEQUENCES = 150


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
    """Documents of each sequence: 1 to 30 slowly rising tokens each, until the sequence is nearly full."""
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


@pytest.fixture(scope="session")
def dropout_model(tmp_path_factory, model_folder) -> Path:
    """The same model with dropout, so that training also depends on the state of the random numbers."""
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
    folder = pretended_gpu.common_folder(tmp_path_factory.getbasetemp())
    return lambda **options: pretended_gpu.environment(folder, **options) | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def on_gpu(gpu) -> Callable[..., str]:
    """Run a Training, or another script, on a GPU that isn't there; returns what it printed."""

    def start(run: Any, status: int = 0, **options: int) -> str:
        command = [word.replace("--device=cpu", "--device=cuda") for word in run.command]
        environment = gpu(**options)
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return start


def undisturbed(run: Training, processes: int) -> Training:
    """Run a training to its end."""
    with Session(run, processes) as session:
        session.finish()
    return run


@pytest.fixture(scope="session")
def reference(tmp_path_factory, model_folder, packed_folder) -> Training:
    """An undisturbed run of one process with the plain engine."""
    return undisturbed(Training(tmp_path_factory.mktemp("reference"), model_folder, packed_folder), 1)


@pytest.fixture(scope="session")
def reference_of_two(tmp_path_factory, model_folder, packed_folder) -> Training:
    """The same run on two processes."""
    return undisturbed(Training(tmp_path_factory.mktemp("reference_of_two"), model_folder, packed_folder), 2)
