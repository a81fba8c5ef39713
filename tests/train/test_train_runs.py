"""scripts/train.py as a user starts it: one loss curve on any number of processes, and exact resume."""

import json

import numpy as np
import pytest
import torch
from forked import Session, kill_after, start
from transformers import AutoModelForCausalLM


def assert_same_curve(one, other):
    assert list(one.metrics.step) == list(other.metrics.step) == list(range(1, 31))
    assert list(one.metrics.tokens) == list(other.metrics.tokens)
    np.testing.assert_allclose(one.metrics.loss, other.metrics.loss, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.metrics.gradient_norm, other.metrics.gradient_norm, rtol=1e-4)


def test_reference_learns_and_saves_a_model_that_loads(reference):
    metrics = reference.metrics
    assert metrics.loss.iloc[-1] < metrics.loss.iloc[0] - 1
    summary = json.loads((reference.folder / "run.json").read_text())
    assert summary["sequences"] == 118 and summary["steps"] == 30  # 29 whole batches of 4, and one of 2
    assert summary["tokens"] == metrics.tokens.iloc[-1] == 118 * 64
    assert summary["final_loss"] == pytest.approx(metrics.loss.iloc[-1])
    assert (summary["settings"]["compile"], summary["settings"]["loss_kernel"]) == (False, "pytorch")
    assert "compile: False (asked for: auto)" in (reference.folder / "log").read_text()
    model = AutoModelForCausalLM.from_pretrained(reference.folder / "model")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    packed = np.fromfile(reference.packed / "sequences.bin", np.uint16).reshape(-1, 64)
    batch = torch.from_numpy(packed[116:118].astype(np.int64))
    loss = model(batch, labels=batch).loss.item()  # after the last step, so a little lower
    assert metrics.loss.iloc[-1] - 0.5 < loss < metrics.loss.iloc[-1] + 0.05
    assert not (reference.folder / "work").exists()


def test_two_processes_see_the_same_batches(reference, reference_of_two):
    assert_same_curve(reference, reference_of_two)


def test_masked_documents_are_separate_and_padding_is_no_token(training, packed_documents, documents):
    settings = {"packed": packed_documents, "tokens": 42 * 64, "document_masking": True}
    one = training("one", **settings)
    with Session(one) as session:
        session.finish()
    used = [document for sequence in documents[:42] for document in sequence]
    assert one.metrics.tokens.iloc[-1] == sum(map(len, used)) < 42 * 64
    summary = json.loads((one.folder / "run.json").read_text())
    assert summary["tokens"] == 42 * 64 - summary["padding_tokens"] == sum(map(len, used))
    # The first loss is that of the base model: the mean over the targets of separate documents.
    model = AutoModelForCausalLM.from_pretrained(one.model)
    first = [torch.tensor([ids]) for sequence in documents[:4] for ids in sequence if len(ids) > 1]
    total = sum(model(ids, labels=ids).loss.item() * (ids.numel() - 1) for ids in first)
    expected = total / sum(ids.numel() - 1 for ids in first)
    assert one.metrics.loss[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.experiments
def test_killed_launcher_leaves_no_second_writer(training, reference_of_two):
    run = training()
    run.kill(2, 10, orphans=True)
    assert run.finish(2).weights == reference_of_two.weights


def test_truncated_checkpoint_falls_back_to_the_one_before(reference, training):
    run = training()
    kill_after(run, lambda: len(run.checkpoints) >= 2)
    newest = run.checkpoints[-1] / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with Session(run) as session:
        session.finish()
    assert "falling back" in (run.folder / "log").read_text()
    assert run.weights == reference.weights


def test_gpu_run_without_gpu_reports_it(training):
    if torch.cuda.is_available():
        pytest.fail("this test needs a machine without a GPU; hide it with CUDA_VISIBLE_DEVICES=")
    run = training()
    (process,) = start([*run.command, "--device=cuda"], 1, run.folder / "terminal")
    process.join(120)
    printed = (run.folder / "terminal").read_text()
    assert process.exitcode == 1
    assert "asks for 1 GPU(s) and this machine offers 0" in printed and "Traceback" not in printed
