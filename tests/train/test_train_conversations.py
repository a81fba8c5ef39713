"""Training on conversations: the loss counts only the assistant's tokens, and is the same in every engine."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packed_mixture import LENGTH, write_packed
from train_settings import SETTINGS, SPREAD, planned, several
from transformers import AutoModelForCausalLM

from cpt.errors import UserError
from cpt.evaluate.bits import bits_per_byte
from cpt.files import sha256_of
from cpt.token_windows import HeldOut, load_held_out
from cpt.train import loop
from cpt.train.batches import PackedSequences, rows_of_step
from cpt.train.schedules import learning_rate
from cpt.train.selection import SelectiveSequences

TOKENS = 35 * LENGTH  # five global batches of 6, and one of 5, which two processes can't share evenly
MEASURED = {"every": 6 * LENGTH, "tokens": 300, "first_steps": 1}
RESUMED = ("ddp", "zero 3, all offloaded")


@pytest.fixture(scope="module")
def masks(documents) -> np.ndarray:
    """1 for the assistant's tokens, uint8 [sequences, length]; every fifth sequence is text, and all ones."""
    generator = np.random.default_rng(4)
    mask = (np.cumsum(generator.integers(0, 9, (len(documents), LENGTH)) == 0, axis=1) % 2).astype(np.uint8)
    mask[::5] = 1
    return mask


@pytest.fixture(scope="module")
def packed(tmp_path_factory, documents, masks) -> Path:
    """The packed documents and masks, as of conversations and texts."""
    folder = write_packed(tmp_path_factory.mktemp("packed_conversations"), documents)
    np.packbits(masks, axis=1).tofile(folder / "loss_mask.bin")
    ledger = json.loads((folder / "ledger.json").read_text())
    ledger["loss_mask_sha256"] = sha256_of(folder / "loss_mask.bin")
    (folder / "ledger.json").write_text(json.dumps(ledger))
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Path:
    """Three held-out conversations; the second has several windows."""
    generator = np.random.default_rng(5)
    sizes = [9, 200, 40]
    tokens = generator.integers(0, 101, sum(sizes)).astype(np.uint32)
    targets = np.cumsum(generator.integers(0, 6, len(tokens)) == 0) % 2 == 1
    targets[np.cumsum([0, *sizes[:-1]])] = False
    path = tmp_path_factory.mktemp("held_out") / "chat.npz"
    answers = np.array([part.sum() for part in np.split(targets, np.cumsum(sizes)[:-1])])
    HeldOut(tokens, np.cumsum(sizes), 3 * answers, 100, targets).save(path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed, held_out) -> Path:
    """Trainings: ENGINE/2 and some ENGINE/resumed on two processes, ddp/1 and ddp/1 by 1 on one."""
    root = tmp_path_factory.mktemp("conversations")

    def training(work: str, stop_after: int | None = None, **changes) -> dict:
        settings = {"document_masking": True, "held_out": MEASURED, **changes}
        return {
            "plan": planned(TOKENS, packed, global_batch=6, **settings),
            "model_folder": str(model_folder),
            "sequences_folders": [str(packed)],
            "held_out": {"chat": str(held_out)},
            "work": str(root / work),
            "stop_after": stop_after,
        }

    listed = []
    for number, (name, engine) in enumerate(SPREAD.items()):
        settings = engine | {"micro_batch": 1 + number % 3, "gradient_checkpointing": number % 2 == 0}
        listed.append(training(f"{name}/2", **settings))
        if name in RESUMED:
            listed += [training(f"{name}/resumed", steps, **settings) for steps in (3, None)]
    several(listed, 2, root)
    several([training("ddp/1", micro_batch=6), training("ddp/1 by 1", micro_batch=1)], 1, root)
    return root


@pytest.fixture(scope="module")
def by_hand(model_folder, documents, masks, packed) -> tuple[list[float], dict]:
    """The same training in plain PyTorch: each document separately, labels of -100 except for answers."""
    plan = planned(TOKENS, packed, global_batch=6)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": SETTINGS["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=1e-8)
    losses = []
    for step in range(plan["steps"]):
        total, targets = torch.zeros(()), 0
        for row in rows_of_step(step, plan)[1]:
            begin = 0
            for document in documents[row]:
                ids = torch.tensor([document])
                mask = torch.from_numpy(masks[row, begin : begin + len(document)]).bool()
                labels = ids.masked_fill(~mask, -100)
                begin += len(document)
                if (count := int((labels[0, 1:] != -100).sum())) == 0:
                    continue
                total = total + model(input_ids=ids, labels=labels).loss * count
                targets += count
        (total / targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS["gradient_clip"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((total / targets).item())
    return losses, {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", [*(f"{name}/2" for name in SPREAD), "ddp/1", "ddp/1 by 1"])
def test_the_loss_is_that_of_plain_pytorch_in_every_step(trained, by_hand, name):
    losses, weights = by_hand
    assert list(pd.read_csv(trained / name / "metrics.csv").loss) == pytest.approx(losses, abs=1e-5)
    model = AutoModelForCausalLM.from_pretrained(trained / name / "model")
    for key, parameter in model.named_parameters():
        assert torch.allclose(parameter, weights[key], atol=2e-5), key


@pytest.mark.parametrize("name", RESUMED)
def test_an_interrupted_run_resumes_to_the_same_bytes(trained, name):
    whole, resumed = (trained / name / kind for kind in ("2", "resumed"))
    assert json.loads((resumed / "run.json").read_text())["resumed_after_step"] == 3
    for file in ("held_out.csv", "model/model.safetensors"):
        assert (whole / file).read_bytes() == (resumed / file).read_bytes()


@pytest.mark.parametrize("name", SPREAD)
def test_held_out_conversations_are_measured_on_answers_as_by_bits_per_byte(
    trained, model_folder, held_out, name
):
    rows = pd.read_csv(trained / name / "2" / "held_out.csv")
    for row, folder in ((rows.iloc[0], model_folder), (rows.iloc[-1], trained / name / "2" / "model")):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        expected = bits_per_byte(model, load_held_out(held_out), LENGTH, 3)
        assert row.loss == pytest.approx(expected["loss"], abs=1e-5)
        assert row.bits_per_byte == pytest.approx(expected["bits_per_byte"], abs=1e-5)


def test_bits_per_byte_of_answers_is_that_of_plain_pytorch(model_folder, held_out):
    model, conversations = AutoModelForCausalLM.from_pretrained(model_folder).eval(), load_held_out(held_out)
    total = begin = 0
    for end in conversations.ends:
        ids = torch.from_numpy(conversations.tokens[begin:end].astype(np.int64))[None]
        for first in range(0, ids.shape[1] - 1, LENGTH):
            window, which = (
                part[first : first + LENGTH + 1] for part in (ids[0], conversations.targets[begin:end])
            )
            labels = window.masked_fill(torch.from_numpy(~which), -100)[None]
            if count := int((labels[0, 1:] != -100).sum()):
                total += model(input_ids=window[None], labels=labels).loss.item() * count
        begin = end
    result = bits_per_byte(model, conversations, LENGTH, 2)
    assert result["tokens"] == conversations.targets.sum() == conversations.predicted.sum()
    assert result["loss"] == pytest.approx(total / conversations.predicted.sum(), abs=1e-5)


@pytest.mark.parametrize("masking", [False, True])
def test_targets_are_counted_as_they_are_weighted(packed, masks, masking):
    sequences = PackedSequences(packed, masking)
    rows = range(7, 40)
    weights = sequences.batch(np.arange(7, 40), np.ones(33, np.float32)).target_weights
    assert sequences.targets_of(rows).tolist() == np.count_nonzero(weights, axis=1).tolist()
    lengths = np.load(packed / "lengths.npy")[7:40]
    assert sequences.tokens(rows) == lengths.sum()
    inside = np.arange(1, LENGTH) < lengths[:, None]
    if not masking:
        assert np.array_equal(weights > 0, inside & (masks[7:40, 1:] == 1))
    assert (weights[3] > 0).sum() >= inside[3].sum() - 20  # row 10 is text


def test_selected_targets_are_a_share_of_the_answers(packed, tmp_path):
    ledger = json.loads((packed / "ledger.json").read_text())
    kept = {"sequences_sha256": ledger["sequences_sha256"], "document_masking": True}
    (tmp_path / "reference.json").write_text(json.dumps(kept | {"losses_sha256": "0" * 64}))
    np.save(tmp_path / "losses.npy", np.zeros((ledger["sequences"], LENGTH - 1), np.float16))
    selection = SelectiveSequences(packed, True, tmp_path, 0.5)
    *_, sequences, _ = selection.batch(np.arange(7, 40), np.ones(33, np.float32))
    counts = selection.targets_of(range(7, 40))
    assert np.bincount(sequences, minlength=33).tolist() == ((counts + 1) // 2).tolist()
    assert selection.selected(range(7, 40)) == len(sequences)


def test_packed_data_with_other_masks_is_refused(packed, model_folder, tmp_path):
    plan = planned(TOKENS, packed, global_batch=6)
    plan["stages"][0]["loss_mask_sha256"] = "0" * 64
    with pytest.raises(UserError, match="packed again since test was planned; plan the run again"):
        loop.train(plan, model_folder, [packed], tmp_path, "cpu")


def test_a_mask_of_another_size_is_refused(packed, tmp_path):
    for file in packed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "loss_mask.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"loss_mask\.bin: 1 bytes instead of 1,200 as ledger\.json states"):
        PackedSequences(tmp_path, False)
