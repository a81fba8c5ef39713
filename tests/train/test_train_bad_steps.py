"""Losses and gradients that aren't finite: the model is never updated with them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Session, kill_after
from one_training import VOCABULARY, Training
from packed_mixture import LENGTH
from train_settings import DEEPSPEED, SETTINGS
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.train.bad_steps import MOST_IN_A_ROW, SPIKE_STEPS, BadSteps
from cpt.train.plain_engine import PlainEngine

NAN, INF = float("nan"), float("inf")
BAD_STEP, BAD_ROW = 7, 25  # each step has 4 rows


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory, model_folder, packed_folder):
    """Make a run whose seventh step has a token with an infinite embedding: poisoned(name, **changes)."""
    folder = tmp_path_factory.mktemp("poisoned")
    model = LlamaForCausalLM.from_pretrained(model_folder)
    model.config.tie_word_embeddings = False
    untied = LlamaForCausalLM(model.config)
    untied.load_state_dict(model.state_dict() | {"lm_head.weight": model.lm_head.weight.clone()})
    with torch.no_grad():
        untied.model.embed_tokens.weight[VOCABULARY - 1] = INF
    untied.save_pretrained(folder / "model")
    shutil.copytree(packed_folder, folder / "packed")
    path = folder / "packed" / "sequences.bin"
    rows = np.fromfile(path, np.uint16).reshape(-1, 64) % (VOCABULARY - 1)
    rows[BAD_ROW, 10] = VOCABULARY - 1
    rows.tofile(path)
    ledger = json.loads((folder / "packed" / "ledger.json").read_text())
    ledger["sequences_sha256"] = sha256_of(path)
    (folder / "packed" / "ledger.json").write_text(json.dumps(ledger))
    return lambda name, **changes: Training(folder / name, folder / "model", folder / "packed", **changes)


@pytest.fixture(scope="module")
def skipping(poisoned) -> Training:
    run = poisoned("skipping", on_bad_step="skip")
    with Session(run) as session:
        session.finish()
    return run


def test_skipped_step_is_logged_and_training_continues(skipping):
    metrics = skipping.metrics
    assert list(metrics.step) == list(range(1, 31))
    assert list(metrics.step[metrics.skipped == 1]) == [BAD_STEP]
    assert np.isnan(metrics.loss[BAD_STEP - 1]) and np.isfinite(metrics.loss.drop(BAD_STEP - 1)).all()
    assert metrics.loss.iloc[-1] < metrics.loss.iloc[0] - 1
    assert json.loads((skipping.folder / "run.json").read_text())["skipped_steps"] == 1
    terminal = (skipping.folder / "terminal").read_text()
    assert f"step {BAD_STEP} (rows 24 to 27 of" in terminal and "the step is skipped" in terminal


def test_stopped_run_resumes_from_its_checkpoint_by_skipping(poisoned, skipping):
    run = poisoned("stopped")
    with Session(run) as session:
        assert session.exit_codes() == [1]
    terminal = (run.folder / "terminal").read_text()
    assert f"the loss is nan and the gradient norm nan at step {BAD_STEP} (rows 24 to 27 of" in terminal
    assert "train.on_bad_step: skip" in terminal and "Traceback" not in terminal
    assert run.checkpoints[-1].name == "step-00000005"
    run.changed(on_bad_step="skip")
    kill_after(run, lambda: bool(run.checkpoints) and run.checkpoints[-1].name > "step-00000010")
    with Session(run) as session:  # AdamW's count of updates is one behind the steps
        session.finish()
    assert "starting over" not in (run.folder / "log").read_text()
    assert run.weights == skipping.weights
    assert json.loads((run.folder / "run.json").read_text())["skipped_steps"] == 1  # before the last session
    assert list(run.metrics.gradient_norm.drop(6)) == list(skipping.metrics.gradient_norm.drop(6))


def test_a_state_to_keep_before_the_first_update_stops_the_run(poisoned):
    """Its moments don't exist yet, so a branch couldn't begin there."""
    step = 28 * LENGTH
    run = poisoned("kept", on_bad_step="skip", global_batch=28, tokens=3 * step, keep_every=step)
    with Session(run) as session:
        assert session.exit_codes() == [1]
    message = "runs.test.keep_every: there is no state to keep after step 1, as no step before made an update"
    assert message in (run.folder / "log").read_text()


def test_deepspeed_skips_the_same_steps(poisoned, skipping):
    run = poisoned("deepspeed", on_bad_step="skip", **DEEPSPEED)
    with Session(run) as session:
        session.finish()
    assert list(run.metrics.skipped) == list(skipping.metrics.skipped)
    np.testing.assert_allclose(run.metrics.loss, skipping.metrics.loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_gradient_that_is_not_finite_changes_nothing_though_the_loss_is_finite(model_folder, value):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    engine = PlainEngine(model, SETTINGS, torch.device("cpu"), 1)
    tokens = torch.arange(64)[None], None, torch.ones(1, 63)
    engine.backward(engine.loss(*tokens))
    assert np.isfinite(engine.step(1e-2))
    before = engine.state()
    loss = engine.loss(*tokens)
    assert torch.isfinite(loss)
    engine.backward(loss)
    model.model.norm.weight.grad[0] = value
    assert not np.isfinite(engine.step(1e-2))
    for part, kept in zip(engine.state(), before, strict=True):
        assert all(torch.equal(part[name], kept[name]) for name in kept)
    assert {float(state["step"]) for state in engine.optimizer.state.values()} == {1.0}
    assert all(p.grad is None for p in model.parameters())


def judge(bad_steps, step, loss=1.0, norm=1.0):
    return bad_steps.is_bad(step, range(4 * step, 4 * step + 4), Path("packed"), loss, norm)


def test_gradient_norm_alone_stops_a_run():
    with pytest.raises(
        UserError, match=r"loss is 1\.0 and the gradient norm inf at step 3 \(rows 12 to 15 of"
    ):
        judge(BadSteps("run", skip=False, writes_warnings=True), 3, norm=INF)


def test_too_many_bad_steps_in_a_row_stop():
    bad_steps = BadSteps("run", skip=True, writes_warnings=True)
    for _ in range(2):
        assert all(judge(bad_steps, step, NAN, NAN) for step in range(MOST_IN_A_ROW))
        assert not judge(bad_steps, MOST_IN_A_ROW)  # a good step restarts the count
    assert all(judge(bad_steps, step, NAN, NAN) for step in range(MOST_IN_A_ROW))
    with pytest.raises(
        UserError, match=rf"after {MOST_IN_A_ROW} skipped steps in a row; lower train\.learning"
    ):
        judge(bad_steps, MOST_IN_A_ROW, NAN, NAN)


def test_update_that_was_made_cannot_be_skipped():
    with pytest.raises(UserError, match="the weights were updated by then"):
        judge(BadSteps("run", skip=True, writes_warnings=True), 3, loss=INF)


def test_spike_is_reported_and_nothing_else(caplog):
    bad_steps = BadSteps("run", skip=True, writes_warnings=True)
    noise = np.random.default_rng(0).normal(3, 0.01, SPIKE_STEPS)
    assert not any(judge(bad_steps, step, loss) for step, loss in enumerate([5.0, *noise]))
    assert not caplog.text
    assert not judge(bad_steps, 200, 3.1)
    assert "loss spike: 3.100 at step 200 (rows 800 to 803 of" in caplog.text
