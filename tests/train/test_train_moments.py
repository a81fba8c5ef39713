"""AdamW's moments in 16 and 8 bits: rounding, memory, engines, resumed and continued runs."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from packed_mixture import LENGTH
from safetensors.torch import load_file
from train_settings import SETTINGS, planned, several

from cpt.config_runs import Train
from cpt.train import moments
from cpt.train.moments import DROPPED, MOMENTS, SCALES, PackedAdamW, converted, empty_moments, pack, unpacked

FORMS = ("bf16", "8bit")
TOKENS = 118 * LENGTH  # 30 steps of 4 sequences


def packed_and_back(values: torch.Tensor, key: str, form: str, added: torch.Tensor | int) -> torch.Tensor:
    state = empty_moments(values, form)
    pack(values, added, state[key], state.get(key + SCALES))
    return unpacked(state[key], state.get(key + SCALES))


def noise(form: str, key: int, like: torch.Tensor) -> torch.Tensor:
    return moments.random_bits(key, 0, like).bitwise_and((1 << DROPPED[form]) - 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", MOMENTS)
def test_rounding_is_right_on_average_and_within_a_last_bit(form, key):
    """For values over seven orders of magnitude; 8bit keeps the largest of each row unchanged."""
    values = (
        torch.randn(8, 500, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-7, 1)[:, None]
    )
    values[:, 0] *= 100
    values = values if key == "exp_avg" else values.square()
    step = 2.0 ** (DROPPED[form] - 23)  # relative, between neighbours
    rounded = torch.stack(
        [packed_and_back(values, key, form, noise(form, k * 2**32, values)) for k in range(400)]
    )
    largest = values.abs().amax(-1, keepdim=True)
    kept = values.abs() > largest * 2.0 ** (-15 if key == "exp_avg" else -31)
    errors = ((rounded - values) / values.abs())[:, kept]
    assert errors.abs().max() <= step * 1.001
    assert errors.mean().abs() < 4 * step / errors.numel() ** 0.5
    assert errors.mean(0).abs().max() < 0.13 * step  # of each value, over 400 roundings
    assert (rounded.sign() == values.sign()).all(0)[kept].all() and not rounded.isnan().any()
    if form == "8bit":
        assert (rounded.abs().amax(-1, keepdim=True) == largest).all()


@pytest.mark.parametrize("form", FORMS)
def test_stored_moments_survive_a_conversion_to_float32_and_back(form):
    generator = torch.Generator().manual_seed(1)
    stored = {}
    for name, shape in (("matrix", (40, 66)), ("experts", (3, 4, 10)), ("vector", (66,)), ("zeros", (2, 3))):
        values = torch.randn(shape, generator=generator) ** 5 * (name != "zeros")
        state = empty_moments(values, form)
        for key in MOMENTS:
            pack(
                values if key == "exp_avg" else values**2,
                noise(form, 1, values),
                state[key],
                state.get(key + SCALES),
            )
        stored |= {f"{key}.{name}": tensor for key, tensor in state.items()}
    whole = converted(stored, "float32")
    assert all(tensor.dtype == torch.float32 for tensor in whole.values()) and len(whole) == 8
    assert not whole["exp_avg.zeros"].any() and not whole["exp_avg_sq.zeros"].any()
    again = converted(whole, form)
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name], stored[name]) for name in stored)


def trained_alone(
    form: str | None, steps: int, gradient, beta2: float = 0.999, shape=(30, 500)
) -> PackedAdamW:
    """AdamW after some steps; `gradient(step)` applies to all weights. With form None: PyTorch's AdamW."""
    weights = torch.nn.Parameter(torch.zeros(shape))
    groups, options = [{"params": [weights]}], {"lr": 1e-3, "betas": (0.9, beta2)}
    optimizer = (
        PackedAdamW(groups, form, 0, **options) if form else torch.optim.AdamW(groups, fused=True, **options)
    )
    for step in range(steps):
        weights.grad = gradient(step).expand(shape).clone()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("form", [*FORMS, "rounded to the nearest"])
def test_second_moment_follows_smaller_gradients(form, monkeypatch):
    """600 steps after the gradients became ten times smaller; with rounding to the nearest it lags behind."""
    scale = torch.linspace(0.5, 2.0, 500)

    def second_moment(form: str | None) -> torch.Tensor:
        optimizer = trained_alone(
            form, 700, lambda step: scale * (1.0 if step < 100 else 0.1), shape=(4, 500)
        )
        (state,) = optimizer.state.values()
        return unpacked(state["exp_avg_sq"], state.get("exp_avg_sq" + SCALES))

    expected = second_moment(None)
    if form in FORMS:
        assert (second_moment(form) / expected).mean().item() == pytest.approx(1, abs=0.02)
    else:
        half = 0x8000 - 2**31  # of the last bit, for both moments
        monkeypatch.setattr(
            moments, "random_bits", lambda key, first, like: torch.full_like(like, half).int()
        )
        assert (second_moment("bf16") / expected).mean() > 1.4


@pytest.mark.parametrize("form", FORMS)
def test_random_bits_do_not_depend_on_the_pieces(form, monkeypatch):
    generator = torch.Generator().manual_seed(2)
    gradients = torch.randn(5, 30, 500, generator=generator)
    whole = trained_alone(form, 5, lambda step: gradients[step])
    monkeypatch.setitem(moments.PIECE, "cpu", 1700)
    pieces = trained_alone(form, 5, lambda step: gradients[step])
    for one, other in zip(whole.state.values(), pieces.state.values(), strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_random_bits_are_uniform_and_differ_by_key():
    like = torch.empty(2**16)
    bits = torch.stack([moments.random_bits(key, 0, like) for key in (1, 2, 2**32, 12345678912345678)])
    for shift in (0, 8, 16, 24):
        counts = torch.stack([((row >> shift) & 0xFF).bincount(minlength=256) for row in bits]).float()
        chi = ((counts - 256) ** 2 / 256).sum(-1)  # 255 degrees of freedom: standard deviation 22.6
        assert (chi - 255).abs().max() < 110
    signs = ((bits[:, :, None] >> torch.arange(32)) & 1).float().flatten(1) * 2 - 1
    assert (signs @ signs.T / signs.shape[1] - torch.eye(4)).abs().max() < 5 / signs.shape[1] ** 0.5
    assert torch.equal(moments.random_bits(7, 100, like)[:50], moments.random_bits(7, 0, like)[100:150])


def test_deepspeed_is_refused():
    with pytest.raises(
        ValueError, match=r"moments: 8bit isn't possible with engine: deepspeed.*engine: ddp or fsdp"
    ):
        Train.model_validate(SETTINGS | {"engine": "deepspeed", "moments": "8bit"})


# Name: processes, settings, steps before a stop and resume, the run that it continues.
BOTH = ["optimizer", "parameters"]
TRAININGS = {
    "plain": (1, {}, None, None),
    **{f"ddp {form}": (1, {"moments": form}, None, None) for form in FORMS},
    **{f"fsdp {form}": (2, {"moments": form, "engine": "fsdp"}, None, None) for form in FORMS},
    # With 8 bits there are scales too.
    "ddp 8bit resumed": (1, {"moments": "8bit"}, 8, None),
    "fsdp 8bit resumed": (2, {"moments": "8bit", "engine": "fsdp"}, 8, None),
    "fsdp offloaded": (1, {"moments": "8bit", "engine": "fsdp", "offload": BOTH}, None, None),
    "then float32": (1, {}, None, "ddp 8bit"),
    "then 8bit": (1, {"moments": "8bit", "engine": "fsdp"}, None, "plain"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder) -> Path:
    root = tmp_path_factory.mktemp("moments")
    for processes in (1, 2):
        listed = []
        for name, (process_count, changes, stop_after, earlier) in TRAININGS.items():
            if process_count != processes:
                continue
            plan = planned(TOKENS // 2 if earlier else TOKENS, packed_folder, **changes)
            if earlier:
                before = planned(TOKENS // 2, packed_folder)
                plan = planned(TOKENS // 4, packed_folder, continued=before, **changes)
            listed += [
                {
                    "plan": plan,
                    "model_folder": str(root / earlier / "model" if earlier else model_folder),
                    "sequences_folders": [str(packed_folder)],
                    "work": str(root / name),
                    "stop_after": stop,
                    "keep_optimizer": True,
                }
                for stop in ([stop_after, None] if stop_after else [None])
            ]
        several(listed, processes, root)
    return root


@pytest.mark.parametrize("form", FORMS)
def test_losses_are_near_those_with_float32_and_similar_on_two_processes(trained, form):
    plain, alone, fsdp = (
        pd.read_csv(trained / n / "metrics.csv").loss for n in ("plain", f"ddp {form}", f"fsdp {form}")
    )
    assert plain.iloc[0] - plain.iloc[-1] > 0.5
    assert 0 < (alone - plain).abs().max() < 0.05
    # The same random bits: a sum in another order seldom rounds to the other side.
    assert (alone - fsdp).abs().max() < (alone - plain).abs().max() / 5


def test_offloaded_moments_are_packed_too(trained):
    offloaded, alone = (pd.read_csv(trained / n / "metrics.csv").loss for n in ("fsdp offloaded", "ddp 8bit"))
    assert (offloaded - alone).abs().max() < 2e-3


@pytest.mark.parametrize("name", [name for name in TRAININGS if name.endswith("resumed")])
def test_resume_is_bit_for_bit(trained, name):
    undisturbed, resumed = trained / name.removesuffix(" resumed"), trained / name
    assert json.loads((resumed / "run.json").read_text())["resumed_after_step"] == 8
    for file in ("model.safetensors", "training_state/optimizer.safetensors"):
        assert (undisturbed / "model" / file).read_bytes() == (resumed / "model" / file).read_bytes()
    one, other = (pd.read_csv(work / "metrics.csv").loss for work in (undisturbed, resumed))
    assert list(one) == list(other)


@pytest.mark.parametrize(
    ("name", "share"), [("ddp bf16", 1), ("ddp 8bit", 0.5), ("fsdp bf16", 0.5), ("fsdp 8bit", 0.25)]
)
def test_bytes_in_memory_and_types_in_a_checkpoint(trained, name, share):
    weights = load_file(trained / name / "model" / "model.safetensors")
    whole = sum(tensor.nbytes for tensor in weights.values())
    held = json.loads((trained / name / "held-0.json").read_text())["optimizer"]["cpu"] / whole
    assert held == pytest.approx(share, abs=0.07)  # a tiny model has many vectors and scales
    stored = load_file(trained / name / "model" / "training_state" / "optimizer.safetensors")
    matrix = next(n for n, tensor in weights.items() if tensor.ndim > 1)
    assert stored[f"exp_avg.{matrix}"].element_size() == (2 if "bf16" in name else 1)


def test_run_continues_one_whose_moments_have_another_form(trained):
    for name in ("then float32", "then 8bit"):
        loss = pd.read_csv(trained / name / "metrics.csv").loss
        plain = pd.read_csv(trained / "plain" / "metrics.csv").loss
        assert len(loss) == 8 and loss.mean() < plain.iloc[:8].mean()
