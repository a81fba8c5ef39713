"""A run that is killed at any moment and resumed ends like an undisturbed one: bit for bit, each step once.

A seed draws the kills: on events (a step is reached, a checkpoint is being written) plus a random delay. Each
test repeats until enough kills have ended a running process: 38 together.
"""

import itertools
import random
import resource
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from forked import Session, kill, repeat
from one_training import Training

from cpt.train.processes import EXIT_INTERRUPTED

STEPS = 30


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, dropout_model, packed_folder) -> Training:
    """An undisturbed run of one process with dropout."""
    run = Training(tmp_path_factory.mktemp("undisturbed") / "run", dropout_model, packed_folder)
    with Session(run) as session:
        session.finish()
    return run


@pytest.fixture
def victim(tmp_path, dropout_model, packed_folder) -> Callable[..., Training]:
    """Make a run to kill: victim(**changed settings)."""
    return lambda **changes: Training(tmp_path / "victim", dropout_model, packed_folder, **changes)


def being_written(run: Training, name: str) -> int:
    """Bytes written so far under a temporary name."""
    total = 0
    with suppress(FileNotFoundError):  # training renamed it, or removed another folder
        for folder in (run.folder / "work").rglob(f".{name}*.incomplete"):
            total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return total


def assert_as_undisturbed(run: Training, undisturbed: Training, processes: int = 1) -> None:
    """Resume the run to its end, and compare all that training leaves."""
    with Session(run, processes) as session:
        session.finish()
    assert list(run.metrics.step) == list(range(1, STEPS + 1))
    for column in ("tokens", "loss", "learning_rate", "gradient_norm", "skipped"):
        assert list(run.metrics[column]) == list(undisturbed.metrics[column]), column
    assert run.weights == undisturbed.weights
    assert not (run.folder / "work").exists()
    assert not list(run.folder.rglob(".*.incomplete"))


def test_the_forked_script_is_the_real_one(training, reference):
    assert_as_undisturbed(training(), reference)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_steps(seed, victim, undisturbed):
    draw, run = random.Random(seed), victim(checkpoint_every=2)

    def attempt() -> bool:
        target = run.last_step + draw.randint(1, 3)
        return kill(run, lambda: run.last_step >= target, draw.uniform(0, 0.01))

    repeat(8, attempt)
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_a_checkpoint_is_written(victim, undisturbed):
    draw, run = random.Random(2), victim(checkpoint_every=1)

    def attempt() -> bool:
        least = draw.choice([1, 300_000, 600_000])
        hit = kill(run, lambda: being_written(run, "step-") >= least)
        return hit and being_written(run, "step-") > 0  # else it had just been renamed

    repeat(6, attempt)
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_loading(victim, undisturbed):
    draw, run = random.Random(3), victim()
    kill(run, lambda: bool(run.checkpoints))

    def attempt() -> bool:
        reached = run.last_step
        (run.folder / "log").unlink()
        hit = kill(run, lambda: (run.folder / "log").exists(), draw.uniform(0, 0.06))
        return hit and run.last_step <= reached

    repeat(5, attempt)
    assert_as_undisturbed(run, undisturbed)


def test_killed_between_the_last_step_and_the_end(victim, undisturbed, tmp_path):
    draw, run = random.Random(4), victim()
    kill(run, lambda: (run.folder / "work" / "checkpoints" / "step-00000025").exists())
    shutil.copytree(run.folder / "work", tmp_path / "kept")
    events = [
        lambda: being_written(run, "model") > 0,
        lambda: (run.folder / "work" / "model").exists(),
        lambda: (run.folder / "model").exists(),
        lambda: (run.folder / "metrics.csv").exists(),
        lambda: (run.folder / "run.json").exists(),
    ]
    turns = itertools.cycle(events)

    def attempt() -> bool:
        hit = kill(run, next(turns), draw.uniform(0, 0.005))
        if not (run.folder / "work" / "checkpoints").exists():  # the run has ended: back to step 25
            shutil.rmtree(run.folder / "work", ignore_errors=True)
            shutil.copytree(tmp_path / "kept", run.folder / "work")
        return hit

    repeat(len(events), attempt)
    assert_as_undisturbed(run, undisturbed)


def test_two_processes_killed_at_random_steps(training, reference_of_two, reference):
    draw, run = random.Random(5), training(checkpoint_every=2)

    def attempt() -> bool:
        target = run.last_step + draw.randint(1, 3)
        return kill(run, lambda: run.last_step >= target, draw.uniform(0, 0.01), 2)

    repeat(6, attempt)
    kept = training("alone", checkpoint_every=2)
    shutil.copytree(run.folder / "work", kept.folder / "work")
    assert_as_undisturbed(run, reference_of_two, 2)
    with Session(kept) as session:  # another number of processes: equal within the rounding of sums
        session.finish()
    np.testing.assert_allclose(kept.metrics.loss, reference.metrics.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_again_and_again(number, victim, undisturbed):
    draw, run = random.Random(number), victim(checkpoint_every=50)  # only those that it writes on a signal

    def attempt() -> bool:
        target = run.last_step + draw.randint(1, 4)
        with Session(run) as session:
            session.wait_until(lambda: run.last_step >= target)
            codes = session.signal(number)
        assert codes in ([EXIT_INTERRUPTED], [0])  # 0: the signal came after the last step
        if codes == [0]:
            return False
        assert run.checkpoints[-1].name == f"step-{run.last_step:08d}"
        return True

    repeat(3, attempt)
    assert_as_undisturbed(run, undisturbed)


def test_two_processes_asked_to_stop_while_the_model_is_saved(training, reference_of_two):
    run = training()

    def attempt() -> bool:
        with Session(run, 2) as session:
            if not session.wait_until(lambda: being_written(run, "model") > 0):
                return False
            assert session.signal(signal.SIGTERM) == [0, 0]
        return True

    repeat(1, attempt)
    assert run.weights == reference_of_two.weights


def test_two_processes_asked_to_stop_on_a_full_disk(training):
    """The first process reports the full disk, and the other doesn't wait for it."""
    run = training(checkpoint_every=50)

    def attempt() -> bool:
        with Session(run, 2, limits={resource.RLIMIT_FSIZE: 100_000}) as session:
            session.wait_until(lambda: run.last_step > 0)
            return session.signal(signal.SIGTERM) == [1, EXIT_INTERRUPTED]  # else training had ended

    repeat(1, attempt)
    assert "can't be written (File too large)" in (run.folder / "log").read_text()
