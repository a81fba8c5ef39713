"""Bits per byte on held-out text."""

import argparse
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bits_per_byte import main
from cpt.errors import UserError
from cpt.evaluate.bits import bits_per_byte, read_held_out, windows

TEXTS = ["The first document.", "", "Größe: 漢字 and <|endoftext|> as text", "x" * 100, "never reached"]


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"url": ["a"] * len(TEXTS), "text": TEXTS}), path)
    return path


def definition(model, texts):
    """Sum over documents of -log p(text after EOS), token by token, in nats."""
    total = 0.0
    for text in texts:
        ids = torch.tensor([[256, *text.encode()]])
        with torch.inference_mode():
            logits = model(input_ids=ids[:, :-1]).logits[0].log_softmax(-1)
        total -= logits[torch.arange(ids.shape[1] - 1), ids[0, 1:]].double().sum().item()
    return total


def test_follows_its_definition(loaded, held_out):
    model, tokenizer = loaded
    found = bits_per_byte(model, tokenizer, held_out, 10_000, 512, 2)
    texts = [text for text in TEXTS if text]
    size = sum(len(text.encode()) for text in texts)
    total = definition(model, texts)
    assert (found["documents"], found["tokens"], found["bytes"]) == (4, size, size)
    assert found["loss"] == pytest.approx(total / size, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(total / size / math.log(2), rel=1e-6)


def test_a_model_that_guesses_needs_log2_of_the_vocabulary_per_token(loaded, held_out):
    model, tokenizer = loaded
    norm = model.model.norm.weight.data
    kept = norm.clone()
    norm.zero_()  # all logits are zero
    try:
        found = bits_per_byte(model, tokenizer, held_out, 10_000, 7, 3)
    finally:
        norm.copy_(kept)
    assert found["loss"] == pytest.approx(math.log(257), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(math.log2(257), rel=1e-6)


@pytest.mark.parametrize("sequence_length", [13, 512])
def test_batch_size_doesnt_matter(loaded, held_out, sequence_length):
    model, tokenizer = loaded
    losses = [
        bits_per_byte(model, tokenizer, held_out, 150, sequence_length, batch)["loss"] for batch in (1, 2, 64)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_each_token_is_predicted_once_after_at_least_one_token():
    documents = [[1, 2, 3, 4, 5], [6, 7], [8, 9]]
    assert windows(documents, 0, 2) == [[0, 1, 2], [2, 3, 4], [4, 5], [0, 6, 7], [0, 8, 9]]
    assert windows(documents, 0, 100) == [[0, 1, 2, 3, 4, 5], [0, 6, 7], [0, 8, 9]]


def test_the_last_document_is_cut_at_a_character(loaded, held_out):
    _, tokenizer = loaded
    first = len(TEXTS[0])
    found = read_held_out(held_out, tokenizer, first + 4)
    # Four more tokens end after the first of the two bytes of "ö", in "Grö": three characters, four bytes.
    assert bytes(found.documents[1]).decode() == "Grö"
    assert found.tokens == found.bytes == first + 4
    assert read_held_out(held_out, tokenizer, first).tokens == first
    assert len(read_held_out(held_out, tokenizer, first).documents) == 1


def test_bad_files_are_told(loaded, tmp_path):
    _, tokenizer = loaded
    path = tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"body": ["x"]}), path)
    with pytest.raises(UserError, match=r"held_out\.parquet: no column `text`; it has body"):
        read_held_out(path, tokenizer, 10)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match=r"no text to score; raise held_out\.share"):
        read_held_out(path, tokenizer, 10)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a parquet file"):
        read_held_out(path, tokenizer, 10)


def test_script_writes_the_report(model_folder, held_out, tmp_path):
    settings = {"held_out_tokens": 60, "sequence_length": 16, "batch_size": 4, "precision": "float32"}
    main(
        argparse.Namespace(
            **{"model": model_folder, "held_out": held_out, "corpus": "docs", "settings": settings},
            **{"threads": 1, "code": "abc", "output": tmp_path / "out.json"},
        )
    )
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["corpus"] == "docs" and report["tokens"] == 60 and report["settings"] == settings
    assert report["loss"] == pytest.approx(math.log(257), abs=0.2)
