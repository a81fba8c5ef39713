"""Jobs on one machine without a scheduler: no GPU is given to two of them at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PROGRAM = """
import os, sys
from cpt.gpus import claim_gpus
claim_gpus(int(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
os.execv(sys.executable, [sys.executable, "-c", "input()"])  # as the launcher becomes a training process
"""


@pytest.fixture
def claim(tmp_path):
    """Start a job that claims so many of four GPUs and keeps them until it is told: claim(count)."""
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\nfor i in 0 1 2 3; do echo GPU $i: A100; done\necho '  MIG 1g: 0'\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    jobs = []

    def start(count: int, **variables: str) -> subprocess.Popen:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        environment |= {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
        environment |= {"PYTHONPATH": str(SCRIPTS)} | variables
        job = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        job.wait()


def claimed(job: subprocess.Popen) -> str:
    return job.stdout.readline().strip()


def test_each_job_gets_gpus_of_its_own_and_waits_for_them(claim):
    first, second = claim(3), claim(1)
    found = [claimed(job).split(",") for job in (first, second)]
    assert [len(names) for names in found] == [3, 1] and sorted(found[0] + found[1]) == ["0", "1", "2", "3"]
    third = claim(2)
    assert third.stderr.readline() == "WARNING:root:waiting for 2 free GPU(s) of 4\n"
    first.communicate("\n")
    assert set(claimed(third).split(",")) < set(found[0])


def test_a_killed_job_gives_them_back(claim):
    job = claim(4)
    assert claimed(job) == "0,1,2,3"
    job.kill()
    assert claimed(claim(4)) == "0,1,2,3"


@pytest.mark.parametrize(
    ("count", "variables", "expected"),
    [
        (2, {"CUDA_VISIBLE_DEVICES": "5,6,7"}, "5,6"),
        (1, {"CUDA_VISIBLE_DEVICES": ""}, ""),
        (5, {}, "None"),  # training says then what it misses
        (1, {"SLURM_JOB_ID": "7"}, "None"),
        (1, {"PATH": "/nowhere"}, "None"),
    ],
)
def test_who_has_dealt_them_out_before(claim, count, variables, expected):
    assert claimed(claim(count, **variables)) == expected
