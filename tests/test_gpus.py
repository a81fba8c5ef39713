"""Jobs on one machine, or in one job of a scheduler: no GPU is given to two of them at once."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpt import gpus

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PROGRAM = """
import os, sys
from cpt.gpus import claim_gpus
claim_gpus(int(sys.argv[1]))
print(*(f"{name}={os.environ[name]}" for name in sorted(os.environ) if "VISIBLE_DEV" in name), flush=True)
os.execv(sys.executable, [sys.executable, "-c", "input()"])  # as the launcher becomes a training process
"""
# What lists the machine's GPUs, and a line or two for each.
PROGRAMS = {
    "nvidia-smi": "echo GPU $i: A100; echo '  MIG 1g: 0'",
    "rocm-smi": "echo 'GPU['$i']'' : Device Name: MI300X'; echo 'GPU['$i']'' : Device ID: 0x74a1'",
}


@pytest.fixture
def claim(tmp_path):
    """Start a job that claims some of four GPUs and keeps them until a line comes: claim(count)."""
    for program, text in PROGRAMS.items():
        (tmp_path / program / program).parent.mkdir()
        (tmp_path / program / program).write_text(f"#!/bin/sh\nfor i in 0 1 2 3; do {text}; done\n")
        (tmp_path / program / program).chmod(0o755)
    jobs = []

    def start(count: int, program: str = "nvidia-smi", **variables: str) -> subprocess.Popen:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        environment |= {"PATH": f"{tmp_path / program}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
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
    """What names the job's GPUs; only the names where it is CUDA's variable."""
    return job.stdout.readline().strip().removeprefix("CUDA_VISIBLE_DEVICES=")


def test_each_job_gets_gpus_of_its_own_and_waits_for_them(claim):
    first, second = claim(3), claim(1)
    lists = [claimed(job).split(",") for job in (first, second)]
    assert [len(names) for names in lists] == [3, 1] and sorted(lists[0] + lists[1]) == ["0", "1", "2", "3"]
    third = claim(2)
    assert third.stderr.readline() == "WARNING:root:waiting for 2 free GPU(s) of 4\n"
    first.communicate("\n")
    assert set(claimed(third).split(",")) < set(lists[0])


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
        (1, {"CUDA_VISIBLE_DEVICES": "MIG-GPU-8a/1/0"}, "MIG-GPU-8a/1/0"),
        (5, {}, ""),  # training then reports what is missing
        (1, {"PATH": "/nowhere"}, ""),
        (1, {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2"}, "2"),
        (1, {"program": "rocm-smi"}, "HIP_VISIBLE_DEVICES=0"),
        (1, {"program": "rocm-smi", "HIP_VISIBLE_DEVICES": "3,1"}, "HIP_VISIBLE_DEVICES=3"),
        (1, {"program": "rocm-smi", "ROCR_VISIBLE_DEVICES": "2,3"}, "ROCR_VISIBLE_DEVICES=2"),
    ],
)
def test_gpus_that_someone_has_assigned_before(claim, count, variables, expected):
    assert claimed(claim(count, **variables)) == expected


def test_amd_gpus_are_dealt_out_as_well(claim):
    jobs = [claim(2, "rocm-smi") for _ in range(2)]
    names = [claimed(job).removeprefix("HIP_VISIBLE_DEVICES=").split(",") for job in jobs]
    assert sorted(names[0] + names[1]) == ["0", "1", "2", "3"]


def test_jobs_of_a_scheduler_have_gpus_of_the_same_numbers(claim):
    """Each sees its own alone. Two processes in one job, such as those of a batch script, share them."""
    own = {"CUDA_VISIBLE_DEVICES": "0,1"}
    jobs = [claim(1, SLURM_JOB_ID=number, **own) for number in ("7", "7", "8")]
    first, second, other = (claimed(job) for job in jobs)
    assert {first, second} == {"0", "1"} and other == "0"


def test_folder_without_locks(monkeypatch, caplog):
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(gpus, "_claimed", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    gpus.claim_gpus(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5" and "this file system has no locks" in caplog.text
