"""What TensorBoard reads from the event files is what training wrote, each step once."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cpt.errors import DamagedFileError, UserError
from cpt.train import event_files, validation
from cpt.train.metrics import COLUMNS, MetricsFile
from tensorboard_log import tensorboard_log


def train(run: Path, first: int, last: int, loss: float = 3.0) -> None:
    """Write a run's files as a training that resumes at step `first` and stops after step `last`."""
    run.mkdir(parents=True, exist_ok=True)
    metrics = MetricsFile(run / "metrics.csv", first - 1)
    held_out = MetricsFile(run / "held_out.csv", first - 1 or -1, validation.COLUMNS)
    for step in range(first, last + 1):
        cells = dict.fromkeys(COLUMNS) | {"step": step, "tokens": 64 * step, "skipped": 0}
        metrics.write(**cells | {"loss": loss - step / 8, "learning_rate": 0.5})
        for corpus in ("physics", "general"):
            held_out.write(step=step, tokens=64 * step, corpus=corpus, loss=loss, bits_per_byte=loss / 2)
    metrics.close()
    held_out.close()


def losses(first: int, last: int, loss: float = 3.0) -> list[tuple[int, float]]:
    """Steps and losses that `train` writes."""
    return [(step, loss - step / 8) for step in range(first, last + 1)]


def shown(results: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """Steps and values that TensorBoard reads, by tag."""
    board = EventAccumulator(str(results / "tensorboard" / run))
    board.Reload()
    return {
        tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]
    }


def files_of(results: Path, run: str) -> list[Path]:
    return sorted((results / "tensorboard" / run).glob("events.out.tfevents.*"))


@pytest.fixture
def follow(tmp_path, monkeypatch) -> Callable[..., None]:
    """Follow the results for a first round and one after each change, then press Ctrl-C."""

    def follow_changes(*changes: Callable[[], object]) -> None:
        rest = iter(changes)

        def sleep(seconds: float) -> None:
            change = next(rest, None)
            if change is None:
                raise KeyboardInterrupt
            change()
            time.sleep(seconds)  # really sleep: event files are ordered by time

        monkeypatch.setattr(event_files, "time", SimpleNamespace(sleep=sleep))
        tensorboard_log(tmp_path, follow=1)
        assert next(rest, None) is None

    return follow_changes


def test_a_run_in_progress(tmp_path):
    run = tmp_path / "checkpoints" / "one"
    train(run, 1, 3)
    for name, half in (("metrics.csv", "4,256,2.5,0.5"), ("held_out.csv", "4,256,physics,3.0,1.")):
        with open(run / name, "a") as file:
            file.write(half)
    tensorboard_log(tmp_path)
    one = [(step, 3.0) for step in (1, 2, 3)]
    half = [(step, 1.5) for step in (1, 2, 3)]
    assert shown(tmp_path, "one") == {
        "train/loss": losses(1, 3),
        "train/tokens": [(1, 64), (2, 128), (3, 192)],
        "train/learning_rate": [(step, 0.5) for step in (1, 2, 3)],
        "train/skipped": [(step, 0) for step in (1, 2, 3)],
        **{f"held_out/loss/{corpus}": one for corpus in ("physics", "general")},
        **{f"held_out/bits_per_byte/{corpus}": half for corpus in ("physics", "general")},
    }


def test_following_a_run_that_grows_and_a_new_one(tmp_path, follow):
    one, two = (tmp_path / "checkpoints" / name for name in ("one", "two"))
    train(one, 1, 2)
    with open(one / "metrics.csv", "a") as file:
        file.write("3,192,nan,0.5,,,,,1,\n")  # a bad step that is read again isn't a new one
    follow(lambda: train(two, 1, 1), lambda: train(one, 4, 5), lambda: None)
    assert [step for step, _ in shown(tmp_path, "one")["train/loss"]] == [1, 2, 3, 4, 5]
    assert len(shown(tmp_path, "one")["held_out/loss/physics"]) == 4
    assert shown(tmp_path, "two")["train/loss"] == losses(1, 1)
    assert len(files_of(tmp_path, "one")) == 1


def test_following_a_run_that_resumes_from_a_checkpoint(tmp_path, follow):
    run = tmp_path / "checkpoints" / "one"
    train(run, 1, 8)
    # Cut back, and read before a new row; read when as long as before; cut back, and read when longer.
    follow(lambda: train(run, 6, 5), lambda: train(run, 6, 8, 4.0), lambda: train(run, 4, 9, 5.0))
    points = shown(tmp_path, "one")
    assert points["train/loss"] == losses(1, 3) + losses(4, 9, 5.0)
    assert points["held_out/loss/general"] == [(s, 3.0) for s in (1, 2, 3)] + [(s, 5.0) for s in range(4, 10)]
    assert [step for step, _ in points["train/tokens"]] == list(range(1, 10))


def test_following_a_run_to_its_end(tmp_path, follow):
    work, run = tmp_path / "checkpoints" / "one", tmp_path / "runs" / "one"
    train(work, 1, 4)

    def first_file() -> None:
        run.mkdir(parents=True)
        shutil.copy(work / "metrics.csv", run)

    def second_file() -> None:
        shutil.copy(work / "held_out.csv", run)
        shutil.rmtree(work)

    follow(first_file, second_file)
    assert shown(tmp_path, "one")["train/loss"] == losses(1, 4)
    assert len(files_of(tmp_path, "one")) == 1


def test_only_the_final_files_of_a_finished_run_are_shown(tmp_path):
    train(tmp_path / "checkpoints" / "one", 1, 9, 4.0)
    train(tmp_path / "runs" / "one", 1, 3)
    tensorboard_log(tmp_path)
    assert shown(tmp_path, "one")["train/loss"] == losses(1, 3)
    assert len(shown(tmp_path, "one")["held_out/loss/physics"]) == 3


def test_a_restart_doubles_nothing_and_keeps_other_files(tmp_path):
    train(tmp_path / "runs" / "one", 1, 3)
    tensorboard_log(tmp_path)
    (own,) = files_of(tmp_path, "one")
    (own.parent / "notes.txt").write_text("of the user")
    tensorboard_log(tmp_path)
    (again,) = files_of(tmp_path, "one")
    assert again != own and (own.parent / "notes.txt").exists()
    assert shown(tmp_path, "one")["train/loss"] == losses(1, 3)


def test_missing_tensorboard_is_reported_and_the_event_files_stay(tmp_path, monkeypatch):
    train(tmp_path / "runs" / "one", 1, 3)
    tensorboard_log(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"TensorBoard can't be imported .*/pip install tensorboard"):
        tensorboard_log(tmp_path)
    assert len(files_of(tmp_path, "one")) == 1


def test_no_runs(tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)  # planned
    with pytest.raises(UserError, match=r"but no run has begun; start training first, or name .* --results"):
        tensorboard_log(tmp_path)
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [("a,b\n1,2\n", 2), ("step,loss\n1,2.5\n2,x\n", 3), ("step,loss\n\0\0\n", 2), ("step\n1,2.5\n", 2)],
)
def test_a_file_that_training_did_not_write_is_refused(tmp_path, text, line):
    path = tmp_path / "runs" / "one" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=f"{path}: line {line} isn't as training writes it .*; remove"):
        tensorboard_log(tmp_path)


@pytest.mark.parametrize("seconds", [0, -1])
def test_seconds_between_two_rounds_are_checked(tmp_path, seconds):
    with pytest.raises(UserError, match=f"--follow: expected whole seconds, 1 or more, got {seconds}"):
        tensorboard_log(tmp_path, follow=seconds)
