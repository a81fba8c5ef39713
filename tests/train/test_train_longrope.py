"""Models whose rotary frequencies depend on the length train on masked documents as on single ones."""

import numpy as np
import pytest
import torch
from tests import long_ropes
from tests.long_ropes import KINDS

from cpt.token_windows import HeldOut
from cpt.train.losses import LossModel
from cpt.train.validation import HeldOutLosses

ORIGINAL, LENGTH = 24, 64
# Documents of two rows: one longer than the original length beside short ones, and short ones alone.
DOCUMENTS = [[40, 14, 10], [ORIGINAL, 20, 1, 19]]


def random_model(kind: str, rope: str) -> torch.nn.Module:
    return long_ropes.random_model(kind, rope, 99, LENGTH, ORIGINAL).train()


def alone(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The summed loss of a document in transformers."""
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "rope"), KINDS)
def test_masked_documents_are_trained_on_as_if_alone(kind, rope, checkpointing):
    ids = torch.randint(0, 99, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in DOCUMENTS])
    weights = (positions[:, 1:] > 0).float()
    separate = random_model(kind, rope)
    expected = sum(
        alone(separate, part) for row, sizes in zip(ids, DOCUMENTS, strict=True) for part in row.split(sizes)
    )
    expected.backward()
    model = random_model(kind, rope)
    loss = LossModel(model, checkpointing)(ids, positions, weights)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, one), other in zip(model.named_parameters(), separate.parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 1e-4 * other.grad.norm(), name


@pytest.mark.parametrize(("kind", "rope"), KINDS)
def test_without_masking_the_loss_is_that_of_transformers(kind, rope):
    ids = torch.randint(0, 99, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    model = random_model(kind, rope)
    expected = sum(alone(model, row) for row in ids)
    loss = LossModel(random_model(kind, rope), False)(ids, None, torch.ones(2, LENGTH - 1))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "rope"), KINDS)
def test_held_out_windows_are_measured_as_if_alone(kind, rope, tmp_path):
    lengths = [60, 30, ORIGINAL + 1, ORIGINAL, ORIGINAL - 1, 7]
    tokens = np.random.default_rng(1).integers(0, 99, sum(lengths)).astype(np.uint32)
    held_out = HeldOut(tokens, np.cumsum(lengths), np.array(lengths), 0)
    held_out.save(tmp_path / "text.npz")
    model = random_model(kind, rope).eval()
    with torch.no_grad():
        windows = [torch.from_numpy(window.astype(np.int64)) for window in held_out.windows(LENGTH)]
        expected = sum(windows_loss(model, window).item() for window in windows) / sum(lengths)
    engine = type("Engine", (), {"loss": lambda self, *inputs: LossModel(model, False)(*inputs)})()
    plan = {"steps": 1, "sequence_length": LENGTH, "execution": {"held_out": {"every": 10, "first_steps": 1}}}
    measured = HeldOutLosses(
        {"text": tmp_path / "text.npz"},
        plan,
        4,
        engine,
        model,
        torch.device("cpu"),
        tmp_path / "found.csv",
        tmp_path / "documents.csv",
        0,
    )
    measured.after(0, 0, 0)
    measured.close()
    loss = float((tmp_path / "found.csv").read_text().splitlines()[1].split(",")[3])
    assert loss == pytest.approx(expected, abs=1e-5)


def windows_loss(model: torch.nn.Module, window: torch.Tensor) -> torch.Tensor:
    """The loss as in cpt.evaluate.bits: the last token is only a target."""
    logits = model(input_ids=window[None, :-1], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum")
