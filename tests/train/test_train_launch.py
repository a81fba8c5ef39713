"""scripts/launch.py: signals reach the training processes, which write a checkpoint however long it takes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from conftest import Training
from train_settings import TRAIN

from cpt.stage import arguments
from cpt.train.processes import EXIT_INTERRUPTED

LAUNCH = TRAIN.with_name("launch.py")


def start(run: Training, processes: int) -> psutil.Popen:
    """Start a run under the launcher."""
    command = [sys.executable, str(LAUNCH), *arguments(processes=processes, cpus=processes, device="cpu")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return psutil.Popen([*command, *run.command], env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("to_all", [False, True])
def test_two_processes_asked_to_stop_and_started_again(training, reference_of_two, to_all):
    """The launcher alone is told, or every process at once, as Slurm does."""
    run = training(checkpoint_every=5)
    launcher, *others = run.hold(5, start, 2)
    training_processes = [child for child in others if "RANK" in child.environ()]
    for process in {launcher, *others} - set(training_processes):
        process.resume()
    for target in [*(others if to_all else []), launcher]:
        target.send_signal(signal.SIGTERM)
    time.sleep(1)
    for process in training_processes:
        process.resume()
    assert launcher.wait(timeout=120) == EXIT_INTERRUPTED
    log = (run.folder / "log").read_text()
    assert "interrupted after step" in log and "; start again to resume" in log
    assert start(run, 2).wait(timeout=240) == 0
    assert run.weights == reference_of_two.weights


def test_killed_launcher_leaves_no_process(training):
    launcher, *others = training(checkpoint_every=5).hold(5, start, 2)
    launcher.kill()
    launcher.wait()
    for process in others:
        with suppress(psutil.NoSuchProcess):  # already killed with the launcher
            process.resume()
    _, alive = psutil.wait_procs(others, timeout=60)
    assert others and not alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process_is_the_script_itself(training, number):
    run = training(checkpoint_every=5)
    process, *others = run.hold(5, start, 1)
    assert not others
    process.send_signal(number)
    process.resume()
    assert process.wait(timeout=120) == EXIT_INTERRUPTED
    assert "interrupted after step" in (run.folder / "log").read_text()
