"""scripts/launch.py: signals reach the training processes, which write a checkpoint however long it takes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from train_settings import TRAIN

from cpt.train.processes import EXIT_INTERRUPTED

LAUNCH = TRAIN.with_name("launch.py")


def start(run, processes: int) -> subprocess.Popen:
    """Start a run under the launcher."""
    command = [sys.executable, str(LAUNCH), "--processes", str(processes), "--cpus", str(processes)]
    command += ["--device", "cpu"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return subprocess.Popen([*command, *run.command], env=environment, stderr=subprocess.DEVNULL)


def wait_for_step(run, process: subprocess.Popen, step: int) -> None:
    for _ in range(2400):
        if (run.folder / "work" / "checkpoints" / f"step-{step:08d}").exists():
            return
        assert process.poll() is None, (run.folder / "log").read_text()[-3000:]
        time.sleep(0.05)
    raise AssertionError(f"step {step} wasn't reached")


@pytest.mark.parametrize("to_all", [False, True])
def test_two_processes_asked_to_stop_and_started_again(training, reference_of_two, to_all):
    """The launcher alone is told, or every process at once, as Slurm does."""
    run = training(checkpoint_every=5)
    process = start(run, 2)
    wait_for_step(run, process, 5)
    told = psutil.Process(process.pid)
    everyone = told.children(recursive=True)
    training_processes = [child for child in everyone if "RANK" in child.environ()]
    for child in training_processes:  # or so small a run would be through before it is told
        child.suspend()
    for target in [*(everyone if to_all else []), told]:
        target.send_signal(signal.SIGTERM)
    time.sleep(1)
    for child in training_processes:
        child.resume()
    assert process.wait(timeout=120) == EXIT_INTERRUPTED
    log = (run.folder / "log").read_text()
    assert "interrupted after step" in log and "; start again to go on" in log
    assert start(run, 2).wait(timeout=240) == 0
    assert run.weights == reference_of_two.weights


def test_killed_launcher_leaves_no_process(training):
    run = training(checkpoint_every=5)
    process = start(run, 2)
    wait_for_step(run, process, 5)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process_is_the_script_itself(training, number):
    run = training(checkpoint_every=5)
    process = start(run, 1)
    wait_for_step(run, process, 5)
    assert not psutil.Process(process.pid).children()
    process.send_signal(number)
    assert process.wait(timeout=120) == EXIT_INTERRUPTED
    assert "interrupted after step" in (run.folder / "log").read_text()
