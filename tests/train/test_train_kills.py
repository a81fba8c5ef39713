"""Killed at any moment and started again, a run ends as if nothing had happened: bit for bit, each step once.

Kills are drawn with a seed, and sent on events (a step was reached, a checkpoint is being written) plus a
random delay. KILLED counts, by phase, those that ended a running process.
"""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Training
from forked import Session

from cpt.train.loop import EXIT_INTERRUPTED

KILLED: Counter[str] = Counter()
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


def kill(run: Training, phase: str, event: Callable[[], bool], delay: float = 0, processes: int = 1) -> None:
    """Start the run and kill it after the event; count the kill if it came before the run's end."""
    with Session(run, processes) as session:
        session.wait_until(event)
        time.sleep(delay)
        codes = session.signal(signal.SIGKILL)
    KILLED[phase] += all(code == -signal.SIGKILL for code in codes)


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
    for _ in range(12):
        target = last_step(run) + draw.randint(1, 3)
        kill(run, "step", lambda target=target: last_step(run) >= target, draw.uniform(0, 0.01))
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_a_checkpoint_is_written(victim, undisturbed):
    draw, run = random.Random(2), victim(checkpoint_every=1)
    torn = 0
    for _ in range(12):
        least = draw.choice([1, 300_000, 600_000])
        kill(run, "checkpoint", lambda least=least: being_written(run, "step-") >= least)
        torn += being_written(run, "step-") > 0
    assert torn >= 6  # the others had just been renamed
    assert_as_undisturbed(run, undisturbed)


def test_killed_while_loading(victim, undisturbed):
    draw, run = random.Random(3), victim()
    kill(run, "step", lambda: bool(run.checkpoints))
    for _ in range(10):
        reached = last_step(run)
        kill(run, "loading", lambda: (run.folder / "log").exists(), draw.uniform(0, 0.25))
        assert last_step(run) <= reached + 5
    assert_as_undisturbed(run, undisturbed)


def test_killed_between_the_last_step_and_the_end(victim, undisturbed, tmp_path):
    draw, run = random.Random(4), victim()
    kill(run, "step", lambda: (run.folder / "work" / "checkpoints" / "step-00000025").exists())
    shutil.copytree(run.folder / "work", tmp_path / "kept")
    events = [
        lambda: being_written(run, "model") > 0,
        lambda: (run.folder / "work" / "model").exists(),
        lambda: (run.folder / "model").exists(),
        lambda: (run.folder / "metrics.csv").exists(),
        lambda: (run.folder / "run.json").exists(),
    ]
    for event in events * 2:
        kill(run, "end", event, draw.uniform(0, 0.005))
        if not (run.folder / "work" / "checkpoints").exists():  # it came to its end: back to step 25
            shutil.rmtree(run.folder / "work", ignore_errors=True)
            shutil.copytree(tmp_path / "kept", run.folder / "work")
    assert_as_undisturbed(run, undisturbed)


def test_two_processes_killed_at_random_steps(training, reference_of_two, reference):
    draw, run = random.Random(5), training(checkpoint_every=2)
    for _ in range(6):
        target = last_step(run) + draw.randint(1, 3)
        kill(run, "two processes", lambda target=target: last_step(run) >= target, draw.uniform(0, 0.01), 2)
    kept = training("alone", checkpoint_every=2)
    shutil.copytree(run.folder / "work", kept.folder / "work")
    assert_as_undisturbed(run, reference_of_two, 2)
    with Session(kept) as session:  # on another number of processes: within the rounding of sums
        session.finish()
    np.testing.assert_allclose(kept.metrics.loss, reference.metrics.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_again_and_again(number, victim, undisturbed):
    draw, run = random.Random(number), victim(checkpoint_every=50)  # none but those it writes when asked
    for _ in range(4):
        target = last_step(run) + draw.randint(1, 4)
        with Session(run) as session:
            session.wait_until(lambda target=target: last_step(run) >= target)
            assert session.signal(number) == [EXIT_INTERRUPTED]
        assert run.checkpoints[-1].name == f"step-{last_step(run):08d}"
    assert_as_undisturbed(run, undisturbed)


def test_there_were_at_least_50_kills():
    print(f"SIGKILLs that ended a running process: {sum(KILLED.values())} {dict(KILLED)}")
    assert sum(KILLED.values()) >= 50
    assert min(KILLED[phase] for phase in ("checkpoint", "loading", "end", "two processes")) >= 5
