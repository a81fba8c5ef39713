"""Bits per byte on held-out text."""

import json
import math

import numpy as np
import pytest
import torch

import bits_per_byte as stage
from cpt.errors import UserError
from cpt.evaluate import bits
from cpt.evaluate.bits import bits_per_byte, document_losses
from cpt.evaluate.model import load_model
from cpt.token_windows import HeldOut

TEXTS = ["The first document.", "Größe: 漢字 and <|endoftext|> as text", "x" * 100]


@pytest.fixture
def held_out() -> HeldOut:
    """TEXTS in a vocabulary in which a token is a byte, and 256 is EOS."""
    encoded = [text.encode() for text in TEXTS]
    tokens = np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint32)
    sizes = np.array([len(text) for text in encoded])
    return HeldOut(tokens, np.cumsum(sizes), sizes, 256, groups=np.array([0, 1, 0]))


def definition(model, texts):
    """Sum over documents of -log p(text after EOS), token by token, in nats."""
    total = 0.0
    for text in texts:
        ids = torch.tensor([[256, *text.encode()]])
        with torch.inference_mode():
            logits = model(input_ids=ids[:, :-1].to(model.device)).logits[0].log_softmax(-1).cpu()
        total -= logits[torch.arange(ids.shape[1] - 1), ids[0, 1:]].double().sum().item()
    return total


def test_follows_its_definition(loaded, held_out):
    model, _ = loaded
    report = bits_per_byte(model, held_out, 512, 2)
    size = sum(len(text.encode()) for text in TEXTS)
    total = definition(model, TEXTS)
    assert (report["documents"], report["groups"], report["tokens"], report["bytes"]) == (3, 2, size, size)
    assert report["loss"] == pytest.approx(total / size, rel=1e-6)
    assert report["bits_per_byte"] == pytest.approx(total / size / math.log(2), rel=1e-6)
    losses = document_losses(model, held_out, 512, 2)
    assert losses.tolist() == pytest.approx([definition(model, [text]) for text in TEXTS], rel=1e-6)


def test_a_model_that_guesses_needs_log2_of_the_vocabulary_per_token(loaded, held_out):
    model, _ = loaded
    norm = model.model.norm.weight.data
    original = norm.clone()
    norm.zero_()  # all logits are zero
    try:
        report = bits_per_byte(model, held_out, 7, 3)
    finally:
        norm.copy_(original)
    assert report["loss"] == pytest.approx(math.log(257), rel=1e-6)
    assert report["bits_per_byte"] == pytest.approx(math.log2(257), rel=1e-6)


@pytest.mark.parametrize("sequence_length", [13, 512])
def test_batch_size_doesnt_matter(loaded, held_out, sequence_length):
    model, _ = loaded
    losses = [bits_per_byte(model, held_out, sequence_length, batch)["loss"] for batch in (1, 2, 64)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


@pytest.fixture
def measure(model_folder, held_out, tmp_path, device):
    """Run the stage; returns its settings and its report."""
    held_out.save(tmp_path / "held_out.npz")

    def run():
        files = (model_folder, tmp_path / "held_out.npz", tmp_path / "out.json", tmp_path / "out.csv")
        settings = {"sequence_length": 16, "batch_size": 4, "precision": "float32"}
        stage.bits_per_byte(*files, "docs", **settings, device=device)
        return settings, json.loads((tmp_path / "out.json").read_text())

    return run


def test_stage_writes_the_report(measure, model_folder, held_out, device, tmp_path):
    settings, report = measure()
    assert report["corpus"] == "docs" and report["settings"] == settings
    assert report["tokens"] == len(held_out.tokens)
    model, _ = load_model(model_folder, "float32", threads=1, device=device)
    losses = document_losses(model, held_out, 16, 4)
    assert report["loss"] == bits_per_byte(model, held_out, 16, 4)["loss"]
    sizes = [len(text.encode()) for text in TEXTS]
    rows = [f"{n},{n % 2},{sizes[n]},{sizes[n]},{losses[n].item()!r}" for n in range(3)]
    assert (tmp_path / "out.csv").read_text().splitlines() == ["document,group,bytes,tokens,nats", *rows]


def test_out_of_gpu_memory_names_the_key_to_lower(measure, monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(bits, "document_losses", too_large)
    with pytest.raises(UserError, match=r"while scoring: evaluate\.batch_size is 4; set it to 2 or less"):
        measure()
