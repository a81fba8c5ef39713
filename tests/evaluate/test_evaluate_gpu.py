"""The scorers on a GPU that isn't there (tests/pretended_gpu): their own tests, run once more."""

import os
import subprocess
import sys
from pathlib import Path

import pretended_gpu
import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.skipif(torch.version.cuda is not None, reason=f"NOT TESTED: {pretended_gpu.NEEDS_NO_CUDA}")
def test_scores_are_those_of_the_cpu(tmp_path):
    environment = pretended_gpu.environment(tmp_path)
    environment = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    tests = [str(HERE / f"test_evaluate_{name}.py") for name in ("scorer", "bits")]
    told = "import torch, sys; sys.exit(not torch.ones(1, device='cuda').is_cuda)"
    assert subprocess.run([sys.executable, "-c", told], env=environment).returncode == 0
    command = [sys.executable, "-m", "pytest", "-n", "0", *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-5000:] + os.linesep + done.stderr
