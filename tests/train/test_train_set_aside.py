"""Training sets checkpoints of other settings aside, and resumes from them once the settings are back."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from forked import Session, kill_after

from cpt.train import checkpoints
from cpt.train.set_aside import Identity, clear

WEIGHTS = {"w": torch.arange(6.0)}
FIRST, SECOND, THIRD, FOURTH = (
    Identity(name, {"learning": {"seed": number, "weight_decay": 0.1}}) for number, name in enumerate("abcd")
)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "work" / "checkpoints"


def train(root: Path, identity: Identity, *steps: int) -> None:
    """Write what training with these settings leaves."""
    for step in steps:
        checkpoints.save(root, step, step, identity, WEIGHTS, {}, keep=2)
    (root.parent / "metrics.csv").write_text(identity.digest)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("step-*"))


def test_there_and_back(root, caplog):
    train(root, FIRST, 5, 10)
    assert checkpoints.newest(root, SECOND) is None
    expected = (
        "step-00000010 belongs to other settings or data; starting over (learning.seed: 0 then, 1 now). "
    )
    assert expected + f"It is kept in {root.parent / 'set-aside-a'}" in caplog.text
    assert files(root.parent) == ["set-aside-a/step-00000010"]  # the newest alone
    assert not (root.parent / "metrics.csv").exists()
    train(root, SECOND, 3)
    assert checkpoints.newest(root, FIRST) == root / "step-00000010"
    assert (root.parent / "metrics.csv").read_text() == "a"
    assert files(root.parent) == ["checkpoints/step-00000010", "set-aside-b/step-00000003"]
    assert (root.parent / "set-aside-b" / "metrics.csv").read_text() == "b"


def test_only_the_last_two_settings_are_kept(root, caplog):
    for identity in (FIRST, SECOND, THIRD):
        assert checkpoints.newest(root, identity) is None
        train(root, identity, 5)
    assert "removed" not in caplog.text
    assert checkpoints.newest(root, FOURTH) is None
    assert files(root.parent) == ["set-aside-b/step-00000005", "set-aside-c/step-00000005"]
    assert "set-aside-a: removed, as there are 2 newer ones" in caplog.text


def test_a_corrupt_checkpoint_of_other_settings_falls_back_to_the_one_before(root):
    train(root, FIRST, 5, 10)
    (root / "step-00000010" / "model.safetensors").write_bytes(b"")
    assert checkpoints.newest(root, SECOND) is None
    assert files(root.parent) == ["set-aside-a/step-00000005"]


def test_checkpoints_of_an_earlier_version_are_kept_too(root, caplog):
    train(root, FIRST, 5)
    state = root / "step-00000005" / "state.json"
    state.write_text(json.dumps({k: v for k, v in json.loads(state.read_text()).items() if k != "learned"}))
    assert checkpoints.newest(root, SECOND) is None
    assert "other settings or data; starting over. It is kept in" in caplog.text
    assert checkpoints.newest(root, FIRST) == root / "step-00000005"


@pytest.mark.parametrize("then", [FIRST, SECOND])
def test_killed_between_two_moves(root, then):
    """metrics.csv moves first on the way out and last on the way back: a kill between leaves this."""
    train(root, FIRST, 10)
    aside = root.parent / "set-aside-a"
    aside.mkdir()
    shutil.move(root.parent / "metrics.csv", aside)
    checkpoints.newest(root, then)
    assert checkpoints.newest(root, FIRST) == root / "step-00000010"
    assert (root.parent / "metrics.csv").read_text() == "a" and not aside.exists()


def test_a_finished_run_leaves_what_was_set_aside(root):
    train(root, FIRST, 5)
    checkpoints.newest(root, SECOND)
    train(root, SECOND, 5)
    clear(root.parent)
    assert files(root.parent) == ["set-aside-a/step-00000005"]
    shutil.rmtree(root.parent / "set-aside-a")
    clear(root.parent)
    assert not root.parent.exists()


def read_losses(path):
    with open(path) as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_another_number_of_processes_without_a_global_batch(training):
    """Two processes have other steps than one, so training starts over, and must keep the checkpoint."""
    run = training(micro_batch=1, global_batch=2)  # as with accumulate: 2 on one process
    work = run.folder / "work"
    kill_after(run, lambda: bool(run.checkpoints))
    checkpoint = run.checkpoints[-1]
    step = int(checkpoint.name.removeprefix("step-"))
    losses = read_losses(work / "metrics.csv")[:step]
    run.changed(micro_batch=1, global_batch=4)  # and on two
    kill_after(run, lambda: "starting over" in (run.folder / "log").read_text() and bool(run.checkpoints), 2)
    log = (run.folder / "log").read_text()
    (aside,) = work.glob("set-aside-*")
    assert (aside / checkpoint.name / "state.json").is_file()
    assert f"{checkpoint.name} belongs to other settings or data" in log
    assert "global_batch: 2 then, 4 now" in log and str(aside) in log
    # The first settings again find the checkpoint, and the rows of metrics.csv up to it.
    run.changed(micro_batch=1, global_batch=2)
    with Session(run) as session:
        session.finish()
    assert f"continuing after step {step} from" in (run.folder / "log").read_text()
    assert list(run.metrics.step) == list(range(1, 60))
    assert read_losses(run.folder / "metrics.csv")[:step] == losses
    # The two processes' checkpoints are aside now, and stay after the run's end.
    (left,) = work.iterdir()
    assert left.name.startswith("set-aside-") and left != aside and list(left.glob("step-*/state.json"))
