"""Which function computes cross-entropy and its gradient, and that all functions agree."""

from pathlib import Path

import pytest
import torch

from cpt.errors import UserError
from cpt.train import softmax as softmax_module
from cpt.train.softmax import LIGER_VERSION, chosen_softmax, fused_softmax, liger_softmax, softmax

ROOT = Path(__file__).resolve().parents[2]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SETTINGS = {"compile": False, "loss_kernel": "auto"}


@pytest.mark.parametrize(
    ("wanted", "device", "installed", "expected"),
    [
        ("auto", CPU, LIGER_VERSION, softmax),
        ("auto", GPU, LIGER_VERSION, liger_softmax),
        ("auto", GPU, "0.1.0", softmax),
        ("auto", GPU, None, softmax),
        ("liger", GPU, LIGER_VERSION, liger_softmax),
        ("pytorch", GPU, LIGER_VERSION, softmax),
    ],
)
def test_which_one_is_chosen(wanted, device, installed, expected, monkeypatch):
    monkeypatch.setattr(softmax_module, "installed_liger", lambda: installed)
    assert chosen_softmax(SETTINGS | {"loss_kernel": wanted}, device) is expected


@pytest.mark.parametrize(
    ("device", "installed", "message"),
    [
        (CPU, LIGER_VERSION, "liger needs a GPU; set auto"),
        (
            GPU,
            "0.1.0",
            f"liger needs liger-kernel {LIGER_VERSION}, and version 0.1.0 is installed; pip install",
        ),
        (GPU, None, f"liger needs liger-kernel {LIGER_VERSION}, and none is installed; pip install"),
    ],
)
def test_liger_is_refused_where_it_cannot_run(device, installed, message, monkeypatch):
    monkeypatch.setattr(softmax_module, "installed_liger", lambda: installed)
    with pytest.raises(UserError, match=rf"train\.loss_kernel: {message}"):
        chosen_softmax(SETTINGS | {"loss_kernel": "liger"}, device)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("function", [softmax, fused_softmax])
def test_losses_and_gradients_are_exact(function, dtype, tolerance):
    torch.manual_seed(0)
    logits, targets = (5 * torch.randn(40, 300)).to(dtype), torch.randint(0, 300, (40, 1))
    logits[0, 0] = 1e4  # its exponential overflows
    exact = logits.double().requires_grad_()
    losses = torch.nn.functional.cross_entropy(exact, targets.squeeze(1), reduction="none")
    (expected,) = torch.autograd.grad(losses.sum(), exact)
    actual, gradient = function(logits.clone(), targets)
    assert (actual.dtype, gradient.dtype) == (torch.float32, dtype)
    torch.testing.assert_close(actual.double(), losses.detach(), rtol=1e-6, atol=1e-6)
    assert (gradient - expected).norm() <= tolerance * expected.norm()


def test_version_of_liger_kernel_is_that_of_the_gpu_environment():
    lines = (ROOT / "envs" / "gpu.txt").read_text().splitlines()
    assert f"liger-kernel=={LIGER_VERSION}" in lines
