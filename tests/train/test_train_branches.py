"""States that a run keeps: a branch from one equals a run planned from the start, bit for bit."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from packed_mixture import LENGTH
from safetensors.torch import load_file
from test_train_continuation import ledger
from train_settings import SETTINGS, planned, several
from transformers import AutoModelForCausalLM

from cpt.config_runs import Train
from cpt.errors import UserError
from cpt.train import checkpoints
from cpt.train.continuation import point_folder
from cpt.train.greedy import greedy_choice
from cpt.train.plan_run import make_plan
from cpt.train.set_aside import Identity

STEP = 4 * LENGTH  # tokens
STABLE = {"schedule": "warmup_stable_decay", "minimum_learning_rate": 1e-4}
TRUNK = STABLE | {"warmup": 0.2, "decay": 0}  # two of ten steps
DECAY = STABLE | {"warmup": 0, "decay": 1}


def whole(steps: int, decay: int) -> dict:
    """A run that was planned from the start: two steps of warmup, and a decay at the end."""
    return STABLE | {"warmup": 2 / steps, "decay": decay / steps}


def plan(steps: int, settings: dict, *ledgers: dict, **named) -> dict:
    train = Train.model_validate(SETTINGS | settings)
    return make_plan("x", steps * STEP, 1, train, list(ledgers) or [ledger("web", 200)], 128, **named)


def test_plan_of_a_branch_begins_at_the_next_row_and_counts_the_steps_before():
    trunk = plan(10, TRUNK, keep_every=2 * STEP + 17)
    assert trunk["kept"] == {str(2 * STEP + 17): 2, str(4 * STEP + 34): 4, str(6 * STEP + 51): 6} | {
        str(8 * STEP + 68): 8
    }
    branch = plan(3, DECAY, continued=trunk, point=4 * STEP + 34)
    assert branch["stages"][0]["first_sequence"] == 16 and branch["steps_before"] == 4
    assert branch["rows_used"] == {"web": 28}
    assert plan(2, DECAY, continued=branch)["steps_before"] == 7  # of a run that continues the branch
    assert plan(10, TRUNK).items() <= trunk.items()  # keeping states changes nothing else in a plan


def test_a_branch_before_and_after_a_switch_of_mixtures():
    ledgers = [ledger("web", 200), ledger("books", 50)]
    trunk = plan(10, TRUNK, *ledgers, switch_at=0.5, keep_every=STEP)
    used = [
        plan(2, DECAY, *ledgers, switch_at=0.5, continued=trunk, point=step * STEP)["stages"]
        for step in (4, 8)
    ]
    assert [[stage["first_sequence"] for stage in stages] for stages in used] == [[16, 0], [20, 12]]


def test_a_branch_begins_at_the_rate_of_its_trunk():
    trunk = plan(10, TRUNK | {"warmup": 0.4}, keep_every=STEP)
    with pytest.raises(UserError, match=r"runs\.x: a branch begins at the learning rate of x, 0\.0015 after"):
        plan(3, DECAY, continued=trunk, point=STEP)
    with pytest.raises(UserError, match=r"not at 0\.002; branch off where the rate is constant"):
        plan(3, DECAY | {"learning_rate": 2e-3}, continued=trunk, point=5 * STEP)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, dropout_model, packed_folder) -> Path:
    """A trunk with branches, and the same runs planned from the start, for three kinds of training."""
    root = tmp_path_factory.mktemp("branches")
    listed = []

    def training(name: str, steps: int, model: Path, settings: dict, stop=None, **named) -> dict:
        run_plan = planned(steps * STEP, packed_folder, checkpoint_every=3, **settings, **named)
        listed.append(
            {
                "plan": run_plan,
                "model_folder": str(model),
                "sequences_folders": [str(packed_folder)],
                "work": str(root / name),
                "stop_after": stop,
            }
        )
        return run_plan

    for kind, start, changes in (
        ("plain", model_folder, {}),
        ("dropout", dropout_model, {"seed": 5}),
        ("8bit", model_folder, {"moments": "8bit"}),
    ):
        for stop in (6, None):
            trunk = training(f"{kind}-trunk", 10, start, TRUNK | changes, stop, keep_every=4 * STEP)
        for point, rest in ((4, 3), (8, 2)):
            state = point_folder(root / f"{kind}-trunk" / "model", point * STEP)
            branched = {"continued": trunk, "point": point * STEP}
            training(f"{kind}-branch-{point}", rest, state, DECAY | changes, **branched)
            training(f"{kind}-whole-{point}", point + rest, start, whole(point + rest, rest) | changes)
    several(listed, 1, root)
    return root


@pytest.mark.parametrize("kind", ["plain", "dropout", "8bit"])
@pytest.mark.parametrize("point", [4, 8])
def test_a_branch_equals_the_run_that_was_planned_from_the_start(trained, kind, point):
    """Even though its trunk was interrupted after the sixth step and rotated its checkpoints."""
    branch, planned_run = trained / f"{kind}-branch-{point}", trained / f"{kind}-whole-{point}"
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (branch, planned_run)]
    assert weights[0] == weights[1]
    trunk, mine, expected = (
        pd.read_csv(folder / "metrics.csv") for folder in (trained / f"{kind}-trunk", branch, planned_run)
    )
    for column in ("loss", "learning_rate", "gradient_norm"):
        assert [*trunk[column][:point], *mine[column]] == list(expected[column])
    assert mine["learning_rate"].is_monotonic_decreasing and mine["learning_rate"].nunique() == len(mine)


def test_a_kept_state_is_a_model_and_the_moments_that_it_had(trained):
    trunk = trained / "plain-trunk" / "model"
    states = sorted(path.name for path in (trunk / "training_state").iterdir())
    assert states == [f"at-{4 * STEP}", f"at-{8 * STEP}"]
    state = point_folder(trunk, 4 * STEP)
    assert AutoModelForCausalLM.from_pretrained(state).config.vocab_size == 101
    one, other = (load_file(folder / "model.safetensors") for folder in (state, trunk))
    assert one.keys() == other.keys() and not any(torch.equal(one[name], other[name]) for name in one)


def test_kept_checkpoints_stay_and_a_missing_one_is_trained_again(tmp_path, caplog):
    identity, tensors = Identity("x", {}), {"w": torch.ones(2)}
    for step in range(1, 9):
        checkpoints.save(tmp_path, step, step, identity, tensors, tensors, keep=2, kept={2, 4})
    steps = lambda: sorted(int(path.name[5:]) for path in tmp_path.glob("step-*"))  # noqa: E731
    assert steps() == [2, 4, 7, 8]
    assert checkpoints.newest(tmp_path, identity, {2, 4, 12}).name == "step-00000008"
    (tmp_path / "step-00000004" / "model.safetensors").write_bytes(b"")
    assert checkpoints.newest(tmp_path, identity, {2, 4, 12}).name == "step-00000002"
    assert steps() == [2] and "step-00000004 is missing, which the run has to keep" in caplog.text


def test_a_full_disk_leaves_kept_checkpoints(tmp_path):
    identity, tensors = Identity("x", {}), {"w": torch.ones(2)}
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, step, identity, tensors, tensors, keep=9)
    tries = []

    def write() -> None:
        tries.append(None)
        if len(tries) == 1:
            raise OSError(28, "no room")

    checkpoints.with_room(tmp_path, write, kept={1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]
    assert len(tries) == 2


def test_a_kept_state_that_cannot_be_written_stops_the_run(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    good, tensors = tmp_path / "step-00000001", {"w": torch.ones(2)}
    monkeypatch.setattr(checkpoints, "save", full)
    with checkpoints.Writer(tmp_path, Identity("x", {}), 2, good, kept={2}) as writer:
        writer.write(3, 3, tensors, tensors, 0.0)
        writer.wait()  # the next checkpoint is tried as planned
        writer.write(2, 2, tensors, tensors, 0.0)
        with pytest.raises(UserError, match="the checkpoint after step 2 can't be written"):
            writer.wait()


def test_greedy_choice_keeps_what_lowers_the_loss():
    """The loss of a choice is how far the mean of its numbers is from 10."""
    numbers = {"a": 4.0, "b": 9.0, "c": 12.0, "d": 10.5}
    loss_of = lambda names: abs(sum(numbers[name] for name in names) / len(names) - 10)  # noqa: E731
    chosen, tried = greedy_choice(list(numbers), loss_of)
    # d alone 0.5; with b 0.25; with c then 0.5, worse; with a worse still.
    assert chosen == ["d", "b"]
    assert [(attempt["models"], attempt["loss"]) for attempt in tried[4:]] == [
        (["d", "b"], 0.25),
        (["d", "b", "c"], 0.5),
        (["d", "b", "a"], pytest.approx(10 - 23.5 / 3)),
    ]
    assert greedy_choice(["b", "d"], lambda names: 1.0)[0] == ["b", "d"]  # equally good, so it is added
