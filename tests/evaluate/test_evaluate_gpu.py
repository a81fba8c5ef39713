"""The scorers' own tests, run again on a pretended GPU (tests/pretended_gpu)."""

import os
import subprocess
import sys
from pathlib import Path

import pretended_gpu
import pytest
import torch

from cpt import cuda
from cpt.errors import UserError
from cpt.evaluate.model import load_model

HERE = Path(__file__).parent


@pytest.mark.skipif(torch.version.cuda is not None, reason=f"NOT TESTED: {pretended_gpu.NEEDS_NO_CUDA}")
def test_scores_are_those_of_the_cpu(tmp_path_factory):
    folder = pretended_gpu.common_folder(tmp_path_factory.getbasetemp())
    environment = pretended_gpu.environment(folder)
    environment = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    tests = [str(HERE / f"test_evaluate_{name}.py") for name in ("scorer", "bits")]
    # One of several tests that differ only in sizes is enough here.
    command = [sys.executable, "-m", "pytest", "-n", "0", *tests, "-k", "not lengths0 and not 512"]
    environment |= {"SCORING_DEVICE": "cuda"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-5000:] + os.linesep + done.stderr


VERSIONS = "NVRM version: NVIDIA UNIX {}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
DRIVERS = {
    "535": VERSIONS.format("x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"),
    "580": VERSIONS.format("Open Kernel Module for x86_64  580.65.06  Release Build  (builder@U22)"),
    "470": VERSIONS.format("x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021"),
}


@pytest.mark.parametrize(
    ("driver", "built", "remedy"),
    [
        (
            "535",
            "13.0",
            r"driver 580 or newer; NVIDIA driver: 535\.104\.05\); make environment \S+/cu126 inst",
        ),
        ("470", "13.0", "NVIDIA driver: 470.57.02.; update the driver to 525 or newer"),
        (
            "580",
            "13.0",
            "NVIDIA driver: 580.65.06.; see whether nvidia-smi lists GPUs here, and whether CUDA_VI",
        ),
        ("535", "12.6", "it needs driver 525 or newer; NVIDIA driver: 535.104.05.; see whether nvidia-smi"),
        ("580", None, r"built for CPUs alone; NVIDIA driver: 580\.65\.06\); make environment \S+/cu130 inst"),
        (
            None,
            None,
            "built for CPUs alone; NVIDIA driver: none.; start it on a node with a GPU, or set cpus",
        ),
    ],
)
def test_scoring_on_a_gpu_that_does_not_compute_is_refused(
    model_folder, monkeypatch, tmp_path, driver, built, remedy
):
    """Scoring on one CPU thread instead would take days."""

    def init():
        raise RuntimeError(
            "The NVIDIA driver on your system is too old (found version 12020). Please\nupdate"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(cuda, "DRIVER", tmp_path / "version")
    if driver:
        (tmp_path / "version").write_text(DRIVERS[driver])
    with pytest.raises(UserError, match=f"the config has gpus.*no CUDA: The NVIDIA driver .*{remedy}"):
        load_model(model_folder, "float32", threads=1, device="cuda")
