"""Killed at any moment and started again, a run ends as if nothing had happened: bit for bit, each step once.

Kills are drawn with a seed, and sent on events (a step was reached, a checkpoint is being written) plus a
random delay. Each test requires a number of kills that ended running processes: 53 together.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Training
from forked import Session

from cpt.train.processes import EXIT_INTERRUPTED

STEPS = 30


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, dropout_model, packed_folder) -> Training:
    """A run of one process, with dropout, that nothing disturbs."""
    run = Training(tmp_path_factory.mktemp("undisturbed") / "run", dropout_model, packed_folder)
    with Session(run) as session:
        session.finish()
    return run


@pytest.fixture
def victim(tmp_path, dropout_model, packed_folder) -> Callable[..., Training]:
    """Make a run to kill: victim(**changed settings)."""
    return lambda **changes: Training(tmp_path / "victim", dropout_model, packed_folder, **changes)


def last_step(run: Training) -> int:
    """The last whole row of the growing metrics.csv."""
    path = run.folder / "work" / "metrics.csv"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return int(number) if (number := whole.rpartition("\n")[2].split(",")[0]).isdigit() else 0


def being_written(run: Training, name: str) -> int:
    """Bytes so far of what is being written under a temporary name."""
    total = 0
    for folder in (run.folder / "work").rglob(f".{name}*.incomplete"):
        for file in folder.rglob("*"):
            try:
                total += file.stat().st_size if file.is_file() else 0
            except FileNotFoundError:
                continue
    return total


def kill(run: Training, event: Callable[[], bool], delay: float = 0, processes: int = 1) -> bool:
    """Start the run and kill it after the event; whether the kill came before the run's end."""
    with Session(run, processes) as session:
        session.wait_until(event)
        time.sleep(delay)
        return all(code == -signal.SIGKILL for code in session.signal(signal.SIGKILL))


def assert_as_undisturbed(run: Training, undisturbed: Training, processes: int = 1) -> None:
    """Go on to the end, and compare all that training leaves."""
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
    hits = 0
    for _ in range(14):
        target = last_step(run) + draw.randint(1, 3)
        hits += kill(run, lambda target=target: last_step(run) >= target, draw.uniform(0, 0.01))
    assert hits >= 11
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_a_checkpoint_is_written(victim, undisturbed):
    draw, run = random.Random(2), victim(checkpoint_every=1)
    hits = torn = 0
    for _ in range(12):
        least = draw.choice([1, 300_000, 600_000])
        hits += kill(run, lambda least=least: being_written(run, "step-") >= least)
        torn += being_written(run, "step-") > 0
    assert hits >= 10 and torn >= 6  # the others had just been renamed
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_loading(victim, undisturbed):
    draw, run = random.Random(3), victim()
    kill(run, lambda: bool(run.checkpoints))
    hits = before_a_step = 0
    for _ in range(10):
        reached = last_step(run)
        (run.folder / "log").unlink()
        hits += kill(run, lambda: (run.folder / "log").exists(), draw.uniform(0, 0.06))
        before_a_step += last_step(run) <= reached
    assert hits >= 8 and before_a_step >= 5
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
    hits = 0
    for event in events * 2:
        hits += kill(run, event, draw.uniform(0, 0.005))
        if not (run.folder / "work" / "checkpoints").exists():  # it came to its end: back to step 25
            shutil.rmtree(run.folder / "work", ignore_errors=True)
            shutil.copytree(tmp_path / "kept", run.folder / "work")
    assert hits >= 8
    assert_as_undisturbed(run, undisturbed)


def test_two_processes_killed_at_random_steps(training, reference_of_two, reference):
    draw, run = random.Random(5), training(checkpoint_every=2)
    hits = 0
    for _ in range(6):
        target = last_step(run) + draw.randint(1, 3)
        hits += kill(run, lambda target=target: last_step(run) >= target, draw.uniform(0, 0.01), 2)
    assert hits >= 5
    kept = training("alone", checkpoint_every=2)
    shutil.copytree(run.folder / "work", kept.folder / "work")
    assert_as_undisturbed(run, reference_of_two, 2)
    with Session(kept) as session:  # on another number of processes: within the rounding of sums
        session.finish()
    np.testing.assert_allclose(kept.metrics.loss, reference.metrics.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_again_and_again(number, victim, undisturbed):
    draw, run = random.Random(number), victim(checkpoint_every=50)  # none but those it writes when asked
    stops = 0
    for _ in range(4):
        target = last_step(run) + draw.randint(1, 4)
        with Session(run) as session:
            session.wait_until(lambda target=target: last_step(run) >= target)
            codes = session.signal(number)
        if codes == [EXIT_INTERRUPTED]:
            stops += 1
            assert run.checkpoints[-1].name == f"step-{last_step(run):08d}"
        else:  # the signal came when all was done
            assert codes == [0]
    assert stops >= 2
    assert_as_undisturbed(run, undisturbed)
