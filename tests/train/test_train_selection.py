"""Selected targets and the pull towards the start: the same by hand, with every engine, split and resume."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from one_training import without_cuda
from packed_mixture import LENGTH, write_packed
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from train_settings import ENGINES, SETTINGS, SPREAD, planned, several
from transformers import AutoModelForCausalLM

from cpt.errors import UserError
from cpt.train.batches import on_device, rows_of_step
from cpt.train.loop import open_sequences
from cpt.train.losses import LossModel
from cpt.train.schedules import learning_rate
from cpt.train.selection import SelectiveSequences, chosen_targets, quotas

SHARE, PULL = 0.6, 0.3
TOKENS = 35 * LENGTH  # five global batches of 6, and one of 5, which doesn't divide evenly over two processes
BOTH = {"selection": {"reference": "base", "share": SHARE}, "l2_to_start": PULL}
RESUMED = ("ddp", "zero 3, all offloaded")
# Stage 0 adds the pull in one way, the other stages in another, and some gradients are offloaded.
PULLED = (*SPREAD, "fsdp, all offloaded", "zero 0", "zero 2, optimizer offloaded")


def write_losses(folder: Path, packed: Path, losses: np.ndarray, masking: bool = False) -> Path:
    """Write the files that scripts/reference_losses.py writes."""
    folder.mkdir(parents=True)
    np.save(folder / "losses.npy", losses.astype(np.float16))
    ledger = json.loads((packed / "ledger.json").read_text())
    kept = {"sequences_sha256": ledger["sequences_sha256"], "document_masking": masking}
    (folder / "reference.json").write_text(json.dumps(kept | {"losses_sha256": "0" * 64}))
    return folder


@pytest.fixture(scope="module")
def losses(tmp_path_factory, packed_folder) -> Path:
    """Losses spread over 0 to 40 nats: the choice of targets also depends on the model's loss, and no two
    excess losses are so close that rounding could change their order."""
    spread = np.random.default_rng(2).uniform(0, 40, (150, LENGTH - 1))
    return write_losses(tmp_path_factory.mktemp("reference") / "losses", packed_folder, spread)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder, losses, gpu) -> Path:
    """Trainings on selected targets with a pull: ENGINE/2 and some ENGINE/resumed on two processes, others
    on one, or on a GPU that isn't there."""
    root = tmp_path_factory.mktemp("selective")

    def training(work: str, stop_after: int | None = None, **changes) -> dict:
        return {
            "plan": planned(TOKENS, packed_folder, global_batch=6, **changes),
            "model_folder": str(model_folder),
            "sequences_folders": [str(packed_folder)],
            "reference_losses": [str(losses)] if "selection" in changes else [],
            "work": str(root / work),
            "stop_after": stop_after,
        }

    listed = []
    for number, name in enumerate(PULLED):
        settings = (
            BOTH | ENGINES[name] | {"micro_batch": 1 + number % 3, "gradient_checkpointing": number % 2 == 0}
        )
        listed.append(training(f"{name}/2", **settings))
        if name in RESUMED:
            listed += [training(f"{name}/resumed", steps, **settings) for steps in (3, None)]
    several(listed, 2, root)
    whole = {"selection": {"reference": "base", "share": 1.0}}
    listed = [
        training("ddp/1", **BOTH, micro_batch="auto"),
        training("ddp/1 by 1", **BOTH, micro_batch=1),
        training("share 1", **whole),
        training("ordinary"),
    ]
    several(listed, 1, root)
    if gpu is not None:
        several([training("ddp/GPU", **BOTH)], 1, root, gpu())
    return root


def by_hand(model_folder: Path, packed_folder: Path, losses: Path) -> tuple[pd.DataFrame, dict]:
    """The same training, written out with whole logits and the penalty as a part of the loss."""
    plan = planned(TOKENS, packed_folder, global_batch=6, **BOTH)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).train()
    packed = np.fromfile(packed_folder / "sequences.bin", np.uint16).reshape(-1, LENGTH).astype(np.int64)
    reference = torch.from_numpy(np.load(losses / "losses.npy")).float()
    start = [p.detach().clone() for p in model.parameters()]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": SETTINGS["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(SETTINGS["beta1"], SETTINGS["beta2"]), eps=1e-8)
    chosen = -(-(LENGTH - 1) * 6 // 10)
    metrics = []
    for step in range(plan["steps"]):
        _, rows = rows_of_step(step, plan)
        ids = torch.from_numpy(packed[rows.start : rows.stop])
        logits = model(input_ids=ids).logits[:, :-1]
        each = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
        excess = (each - reference[rows.start : rows.stop]).detach()
        best = torch.stack([row.topk(chosen).indices for row in excess])
        loss = each.gather(1, best).mean()
        penalty = sum((p - s).square().sum() for p, s in zip(model.parameters(), start, strict=True))
        (loss + PULL / 2 * penalty).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS["gradient_clip"]).item()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        optimizer.step()
        optimizer.zero_grad()
        metrics.append((each.mean().item(), loss.item(), norm))
    return pd.DataFrame(metrics, columns=["loss", "selected_loss", "gradient_norm"]), dict(
        model.named_parameters()
    )


@pytest.fixture(scope="module")
def expected(model_folder, packed_folder, losses) -> tuple[pd.DataFrame, dict]:
    return by_hand(model_folder, packed_folder, losses)


@pytest.mark.parametrize(
    "work",
    [*(f"{name}/2" for name in PULLED), "ddp/1", "ddp/1 by 1", pytest.param("ddp/GPU", marks=without_cuda)],
)
def test_each_kind_of_engine_and_split_trains_as_by_hand(trained, expected, work):
    expected_metrics, weights = expected
    metrics = pd.read_csv(trained / work / "metrics.csv")
    assert list(metrics.step) == [1, 2, 3, 4, 5, 6]
    for column in ("loss", "selected_loss"):
        np.testing.assert_allclose(metrics[column], expected_metrics[column], rtol=0, atol=1e-5)
    np.testing.assert_allclose(metrics.gradient_norm, expected_metrics.gradient_norm, rtol=1e-4)
    assert (abs(metrics.loss - metrics.selected_loss) > 1e-4).all()
    model = AutoModelForCausalLM.from_pretrained(trained / work / "model")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", RESUMED)
def test_resume_is_bit_for_bit_and_keeps_the_start(trained, name):
    undisturbed, resumed = trained / name / "2", trained / name / "resumed"
    assert json.loads((resumed / "run.json").read_text())["resumed_after_step"] == 3
    one, other = ((work / "model" / "model.safetensors").read_bytes() for work in (undisturbed, resumed))
    assert one == other
    one, other = (pd.read_csv(work / "metrics.csv") for work in (undisturbed, resumed))
    assert list(one.selected_loss) == list(other.selected_loss) and list(one.loss) == list(other.loss)


def test_all_targets_selected_is_an_ordinary_run_bit_for_bit(trained):
    one, other = (trained / name for name in ("share 1", "ordinary"))
    weights = [(work / "model" / "model.safetensors").read_bytes() for work in (one, other)]
    assert weights[0] == weights[1]
    one, other = (pd.read_csv(work / "metrics.csv") for work in (one, other))
    assert list(one.selected_loss) == list(other.loss) and other.selected_loss.isna().all()
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-6)


@pytest.mark.parametrize("name", SPREAD)
def test_start_weights_are_split_as_the_optimizer_is(trained, name):
    whole = sum(t.nbytes for t in load_file(trained / "ddp" / "2" / "model" / "model.safetensors").values())
    held = [json.loads((trained / name / "2" / f"held-{rank}.json").read_text()) for rank in (0, 1)]
    shares = [part["start"]["cpu"] / whole for part in held]
    assert shares == pytest.approx([1, 1] if name == "ddp" else [0.5, 0.5], abs=0.06)
    assert "start" not in json.loads((trained / "ordinary" / "held-0.json").read_text())


# ---------------------------------------------------------------------------------- parts, on small numbers
def test_quota_is_the_share_as_written_rounded_up():
    assert quotas(np.array([0, 1, 5, 100]), 0.07).tolist() == [0, 1, 1, 7]
    assert quotas(np.array([5, 7, 63]), 0.6).tolist() == [3, 5, 38]
    assert quotas(np.array([9]), 1.0).tolist() == [9]


def test_chosen_targets_by_hand():
    losses = torch.tensor([[3.0, 1.0, 2.0, 9.0, 4.0], [1.0, 1.0, 1.0, 1.0, 5.0]])
    reference = torch.tensor([[1.0, 0.0, 3.0, 0.0, 2.0], [0.5, 2.0, 0.5, 0.5, 0.0]], dtype=torch.float16)
    # Excess 2, 1, -1, (9), 2 and 0.5, -1, 0.5, 0.5, (5); the fourth and the last are no targets.
    weights = torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0]])

    def chosen(counts):
        sequences = torch.tensor(np.repeat([0, 1], counts))
        ranks = torch.tensor(np.concatenate([np.arange(count) for count in counts]), dtype=torch.int64)
        return chosen_targets(losses.flatten(), weights.flatten(), reference, sequences, ranks).tolist()

    assert chosen([2, 2]) == [0, 4, 5, 7]  # the earlier of equal ones
    assert chosen([1, 3]) == [0, 5, 7, 8]
    assert chosen([3, 0]) == [0, 1, 4]
    assert chosen([4, 4]) == [0, 1, 2, 4, 5, 6, 7, 8]
    losses[0, 2] = torch.nan  # comes first, so that it shows in the step's loss
    assert chosen([1, 0]) == [2]


@pytest.mark.parametrize("masking", [False, True])
def test_padding_and_first_tokens_of_documents_are_never_selected(tmp_path, model_folder, masking):
    sequences = [[[5] * 3, [6], [7] * 60], [[8] * 2, [9] * 28], [[4, 5] * 32]]
    packed = write_packed(tmp_path, sequences)
    # Padding and document starts have the lowest reference: as targets they would be chosen first.
    spread = np.random.default_rng(0).uniform(10, 40, (3, LENGTH - 1))
    spread[1, 29:] = 0
    spread[0, [2, 3]] = spread[1, 1] = 0
    selective = SelectiveSequences(
        packed, masking, write_losses(tmp_path / "r", packed, spread, masking), 0.5
    )
    targets = [61, 28, 63] if masking else [63, 29, 63]
    assert selective.targets_of(range(3)).tolist() == targets
    assert selective.selected(range(3)) == sum(-(-count // 2) for count in targets)
    assert [selective.selected(range(n)) for n in (0, 1)] == [0, -(-targets[0] // 2)]
    batch = selective.batch(np.array([1, 0, 2, 0]), np.array([1, 1, 1, 0], np.float32))
    assert len(batch[6]) == selective.selected(range(3))
    torch.manual_seed(0)
    losses = torch.rand(4 * (LENGTH - 1))
    chosen = chosen_targets(losses, *map(torch.from_numpy, (batch[2], *batch[4:])))
    assert (torch.from_numpy(batch[2]).flatten()[chosen] == 1).all() and len(set(chosen.tolist())) == len(
        chosen
    )
    starts = {(LENGTH - 1) * row + place for row, places in ((0, [1]), (1, [2, 3])) for place in places}
    assert starts.isdisjoint(chosen.tolist()) == masking
    model = LossModel(AutoModelForCausalLM.from_pretrained(model_folder), save_memory=False)
    selected, whole = model(*on_device(batch, torch.device("cpu")))
    ordinary = model(*on_device(batch[:3], torch.device("cpu")))
    assert whole.item() == pytest.approx(ordinary.item(), rel=1e-6) and selected.item() < whole.item()
    selected.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_each_mixture_needs_losses(packed_folder, losses):
    settings = {"document_masking": False, "selection": {"reference": "base", "share": 0.5}}
    with pytest.raises(
        UserError, match=r"train\.selection: .* each of 2 mixture\(s\), and 1 were given; name their folders"
    ):
        open_sequences(settings, [packed_folder, packed_folder], [losses])


def test_losses_of_another_mixture_or_masking_are_refused(tmp_path, packed_folder, packed_documents, losses):
    with pytest.raises(UserError, match=r"the reference's losses don't belong to .*sequences_sha256.*remove"):
        SelectiveSequences(packed_documents, False, losses, 0.5)
    with pytest.raises(UserError, match=r"don't belong to .*document_masking: False instead of True"):
        SelectiveSequences(packed_folder, True, losses, 0.5)
    shutil.copytree(losses, tmp_path / "cut")
    np.save(tmp_path / "cut" / "losses.npy", np.zeros((3, LENGTH - 1), np.float16))
    with pytest.raises(UserError, match=r"losses\.npy: \[3, 63\] losses don't fit"):
        SelectiveSequences(packed_folder, False, tmp_path / "cut", 0.5)
