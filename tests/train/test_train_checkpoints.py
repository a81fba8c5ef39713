"""Checkpoints: complete or skipped, written while training continues, and what a full disk does."""

import errno
import json
import logging
import resource
import threading

import pytest
import torch
from forked import Session, kill_after
from train_settings import SETTINGS
from transformers import AutoModelForCausalLM

from cpt.errors import UserError
from cpt.train import checkpoints
from cpt.train.plain_engine import PlainEngine
from cpt.train.processes import lock
from cpt.train.set_aside import Identity

ME = Identity("me", {"seed": 1})
WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}
MOMENTS = {"exp_avg.w": WEIGHTS["w"] * 2, "exp_avg_sq.w": WEIGHTS["w"] ** 2}


def saved(root, *steps, keep=2):
    for step in steps:
        checkpoints.save(root, step, step - 1, ME, WEIGHTS, MOMENTS, keep)
    return sorted(p.name for p in root.iterdir())


def written(writer, step):
    writer.write(step, step, WEIGHTS, MOMENTS, since=0.0)
    writer.wait()


def test_checkpoints_rotate_and_come_back(tmp_path):
    assert saved(tmp_path, 5, 10, 15) == ["step-00000010", "step-00000015"]
    state, weights, moments = checkpoints.load(checkpoints.newest(tmp_path, ME))
    assert (state["step"], state["updates"]) == (15, 14)
    assert torch.equal(weights["w"], WEIGHTS["w"])
    assert all(torch.equal(moments[name], MOMENTS[name]) for name in MOMENTS)


def remove_key(state, key):
    return json.dumps({k: v for k, v in json.loads(state).items() if k != key}).encode()


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda content: content[:20]),
        ("model.safetensors", lambda content: content[:-1] + b"x"),
        ("model.safetensors", None),
        ("optimizer.safetensors", lambda content: b""),
        ("optimizer.safetensors", None),
        ("state.json", lambda content: b"{"),
        ("state.json", lambda content: b"\xff\xfe"),
        ("state.json", lambda content: b"[]"),
        ("state.json", lambda content: b"null"),
        ("state.json", lambda content: remove_key(content, "updates")),
        ("state.json", lambda content: remove_key(content, "sha256")),
        ("state.json", lambda content: content.replace(b'"step": 10', b'"step": "x"')),
        ("state.json", None),
    ],
)
def test_corrupt_newest_falls_back_to_the_one_before(tmp_path, caplog, file, damage):
    saved(tmp_path, 5, 10)
    path = tmp_path / "step-00000010" / file
    content = path.read_bytes()
    path.unlink() if damage is None else path.write_bytes(damage(content))
    assert path.exists() == (damage is not None) and (damage is None or path.read_bytes() != content)
    assert checkpoints.newest(tmp_path, ME).name == "step-00000005"
    assert "step-00000010 is corrupt" in caplog.text and "falling back" in caplog.text
    assert saved(tmp_path, 8) == ["step-00000005", "step-00000008"]  # the corrupt one doesn't count


def test_no_checkpoint_is_left(tmp_path):
    saved(tmp_path, 5)
    (tmp_path / "step-00000005" / "state.json").unlink()
    assert checkpoints.newest(tmp_path, ME) is None


def test_an_unreadable_checkpoint_is_not_treated_as_corrupt(tmp_path, monkeypatch):
    saved(tmp_path, 5, 10)

    def broken(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "sha256_of", broken)
    with pytest.raises(
        UserError, match=r"step-00000010: can't be read \(Input/output error\); repair the disk"
    ):
        checkpoints.newest(tmp_path, ME)
    assert len(list(tmp_path.iterdir())) == 2


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    (tmp_path / ".step-00000007.incomplete").mkdir()
    assert checkpoints.newest(tmp_path, ME) is None
    assert not list(tmp_path.iterdir())


def test_training_continues_while_one_checkpoint_is_written(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    release, save, active = threading.Event(), checkpoints.save, []

    def slow(*arguments):
        active.append(threading.active_count())
        assert release.wait(20)
        save(*arguments)

    monkeypatch.setattr(checkpoints, "save", slow)
    with checkpoints.Writer(tmp_path, ME, 2, None) as writer:
        writer.write(5, 5, WEIGHTS, MOMENTS, since=0.0)
        writer.check()
        assert not list(tmp_path.iterdir())  # training didn't wait for it
        threading.Timer(0.2, release.set).start()
        writer.write(10, 10, WEIGHTS, MOMENTS, since=0.0)
        assert (tmp_path / "step-00000005").exists()
        assert "training waits for the checkpoint before that of step 10" in caplog.text
    assert (tmp_path / "step-00000010").exists()  # leaving the context waits for the write in flight
    assert writer.count == 2 and writer.summary()["written"] == 2
    assert "checkpoint after step 10: 0.0 MB written in" in caplog.text


def test_the_state_handed_over_is_a_copy(model_folder):
    engine = PlainEngine(AutoModelForCausalLM.from_pretrained(model_folder), SETTINGS, torch.device("cpu"), 1)

    def step():
        engine.backward(engine.loss(torch.arange(64)[None], None, torch.ones(1, 63)))
        engine.step(1e-2)

    step()
    state = engine.state()
    before = [{name: tensor.clone() for name, tensor in part.items()} for part in state]
    step()
    for part, copy in zip(state, before, strict=True):
        assert all(torch.equal(part[name], copy[name]) for name in copy)
    assert not torch.equal(engine.state()[0]["model.norm.weight"], before[0]["model.norm.weight"])


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "x")


def test_full_disk_without_a_checkpoint_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with checkpoints.Writer(tmp_path, ME, 2, None) as writer:
        expected = (
            r"step 5 can't be written \(No space left on device\): it needs 0\.0 MB, and [\d,.]+ MB are "
        )
        with pytest.raises(UserError, match=expected + "free; make room there.*then run again"):
            written(writer, 5)


def test_full_disk_warns_as_long_as_there_is_a_checkpoint(tmp_path, monkeypatch, caplog):
    saved(tmp_path, 5)
    with checkpoints.Writer(tmp_path, ME, 2, tmp_path / "step-00000005") as writer:
        with monkeypatch.context() as full:
            full.setattr(checkpoints, "save_file", full_disk)
            written(writer, 10)
        assert "Training continues; the newest checkpoint is step-00000005" in caplog.text
        assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]
        written(writer, 15)
    assert checkpoints.newest(tmp_path, ME).name == "step-00000015" and writer.count == 1


def test_full_disk_gives_up_older_checkpoints_for_a_new_one(tmp_path, monkeypatch, caplog):
    saved(tmp_path, 5, 10)
    save_file = checkpoints.save_file

    def room_for_two(tensors, path):
        full_disk() if (tmp_path / "step-00000005").exists() else save_file(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", room_for_two)
    with checkpoints.Writer(tmp_path, ME, 2, tmp_path / "step-00000010") as writer:
        written(writer, 15)
    assert "removing all checkpoints but the newest" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_an_unexpected_error_surfaces_in_the_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "save", lambda *_: 1 / 0)
    with checkpoints.Writer(tmp_path, ME, 2, tmp_path) as writer, pytest.raises(ZeroDivisionError):
        written(writer, 5)


def test_safetensors_own_errors_become_os_errors(tmp_path):
    with pytest.raises(OSError) as caught, checkpoints.os_errors(tmp_path / "x"):
        checkpoints.save_file(WEIGHTS, tmp_path / "missing" / "x")
    assert caught.value.errno == errno.ENOENT


def test_work_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/work: can't be written \(Not a directory\).*write access"):
        lock(tmp_path / "file" / "work", lambda: False)


def test_run_on_a_full_disk(training, reference):
    """The limit on file size allows the model, but not AdamW's moments, which are twice as large."""
    run, limits = training(), {resource.RLIMIT_FSIZE: 400_000}
    with Session(run, limits=limits) as session:
        assert session.exit_codes() == [1]
    terminal = (run.folder / "terminal").read_text()
    assert "checkpoint after step 5 can't be written (File too large): it needs 0.8 MB" in terminal
    assert "make room there" in terminal and "Traceback" not in terminal
    kill_after(run, lambda: bool(run.checkpoints))
    (run.folder / "terminal").unlink()
    newest = run.checkpoints[-1].name
    with Session(run, limits=limits) as session:
        session.finish()
    terminal = (run.folder / "terminal").read_text()
    assert f"Training continues; the newest checkpoint is {newest}" in terminal
    assert run.weights == reference.weights
    assert json.loads((run.folder / "run.json").read_text())["checkpoints"]["written"] == 0


def test_final_model_on_a_full_disk(training, reference):
    run = training()
    kill_after(run, lambda: (run.folder / "work" / "checkpoints" / "step-00000025").exists())
    with Session(run, limits={resource.RLIMIT_FSIZE: 200_000}) as session:
        assert session.exit_codes() == [1]
    terminal = (run.folder / "terminal").read_text()
    assert "work/model: can't be written (File too large)" in terminal and "Traceback" not in terminal
    assert run.checkpoints
    with Session(run) as session:
        session.finish()
    assert run.weights == reference.weights


def test_summary_reports_what_checkpoints_cost(reference):
    costs = json.loads((reference.folder / "run.json").read_text())["checkpoints"]
    assert costs["written"] == 5 and costs["megabytes_each"] > 0.5
    assert costs["seconds_training_waited"] >= 0 and costs["seconds_written"] > 0
