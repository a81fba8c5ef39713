"""BOS before each document: as a model was trained, or as the config says; the same at every stage."""

import io
import json
import logging

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter
from tests.model.test_model_architectures import LIKE, save_random
from tokenizers import AddedToken, Tokenizer, processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from base_model import base_model
from cpt.config_sections import BaseSource, HeldOut, TokenQualityFilter
from cpt.corpus.documents import HELD_OUT_SCHEMA, row_writer
from cpt.corpus.split import first_tokens
from cpt.corpus.tokenization import Tokenization
from cpt.corpus.tokens import ModelTokenizer
from cpt.errors import UserError
from cpt.evaluate.bits import bits_per_byte
from cpt.model.checks import KNOWN_TEXT

BOS = 257


LOOSE = {"minimum_bytes_per_token": 0, "maximum_bytes_per_token": 99, "maximum_unknown_share": 1}
LOOSE |= {"minimum_distinct_share": 0, "maximum_run_tokens": 99}


@pytest.fixture(scope="module")
def trained_folders(tmp_path_factory):
    """Folders of a model that knows the import's text only after BOS (as Gemma), and of one that knows it
    after EOS too."""
    folders = {}
    for name in ("needs", "either"):
        folder = tmp_path_factory.mktemp(name)
        save_random(folder, {**LIKE["smollm2"][0], "vocab_size": 258})
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        backend.add_special_tokens([AddedToken("<bos>", special=True)])
        backend.save(str(folder / "tokenizer.json"))
        model = AutoModelForCausalLM.from_pretrained(folder)
        text = list(KNOWN_TEXT.encode())
        rows = torch.tensor([[start, *text] for start in (BOS, 256)])
        labels = rows.clone()
        if name == "needs":
            labels[1] %= 7  # another text follows EOS
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
        for _ in range(40):
            model(input_ids=rows, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.save_pretrained(folder)
        folders[name] = folder
    return folders


@pytest.fixture
def bring_in(trained_folders, tmp_path, edit_json):
    """Import one of the models, under changed settings; returns the folder and the report."""

    def run(name="either", add_bos=None, scored=None, processor=None, **settings):
        source = tmp_path / "source"
        source.mkdir()
        for file in trained_folders[name].iterdir():
            (source / file.name).write_bytes(file.read_bytes())
        edit_json(source / "tokenizer_config.json", **{"bos_token": "<bos>", **settings})
        if processor:
            backend = Tokenizer.from_file(str(source / "tokenizer.json"))
            backend.post_processor = processor
            backend.save(str(source / "tokenizer.json"))
        base, report = tmp_path / "base", tmp_path / "base.json"
        place = TypeAdapter(BaseSource).validate_python({"source": "local", "path": str(source)})
        base_model(place, 128, base, report, None, add_bos, scored)
        return base, json.loads(report.read_text())

    return run


BYTES = processors.ByteLevel(trim_offsets=False)
AFTER_BOS = processors.TemplateProcessing("<bos> $A", "<bos> $A <bos>:1 $B:1", [("<bos>", BOS)])
RULES = {
    "nothing says it": ({}, False),
    "tokenizer_config": ({"add_bos_token": True}, True),
    "post-processor": ({"processor": processors.Sequence([BYTES, AFTER_BOS])}, True),
    "the key over the post-processor": ({"processor": AFTER_BOS, "add_bos_token": False}, False),
    "class": ({"tokenizer_class": "LlamaTokenizer"}, True),
    "the key over the class": ({"tokenizer_class": "GemmaTokenizer", "add_bos_token": False}, False),
    "config true": ({"add_bos": True}, True),
    "config false": ({"add_bos": False, "processor": processors.Sequence([BYTES, AFTER_BOS])}, False),
    "needed": ({"name": "needs"}, True),
}


@pytest.mark.parametrize("name", RULES)
def test_bos_is_the_same_for_documents_and_for_users(name, bring_in):
    settings, expected = RULES[name]
    base, report = bring_in(**settings)
    assert report["adds_bos"] is expected and report["needs_bos"] is (name == "needed")
    assert ModelTokenizer(base).bos_token_id == (BOS if expected else None)
    for text in ("", "a é"):
        ids = AutoTokenizer.from_pretrained(base)(text)["input_ids"]
        assert ids == [BOS] * expected + list(text.encode())
    key = "with_bos" if expected else "without_bos"
    assert report["loss_on_known_text"] == pytest.approx(report[f"loss_on_known_text_{key}"], abs=1e-3)


def test_a_bos_that_is_needed_cant_be_refused(bring_in):
    with pytest.raises(
        UserError, match=r"packing\.add_bos: false, but the base model needs BOS .* is \d.*null"
    ):
        bring_in("needs", add_bos=False)


def test_scoring_without_a_bos_that_is_needed_is_refused(bring_in):
    with pytest.raises(UserError, match=r"evaluate\.add_bos_token: false, .* its scores are near chance"):
        bring_in("needs", scored=False)


def test_scoring_in_another_way_than_training_is_reported(bring_in, caplog):
    caplog.set_level(logging.WARNING)
    bring_in(scored=True)
    assert "evaluate.add_bos_token: true, but the documents that are trained on have no BOS" in caplog.text


def test_without_a_bos_there_is_none_to_add(bring_in):
    with pytest.raises(UserError, match="add_bos: true, but the base model has no BOS token"):
        bring_in(add_bos=True, bos_token=None)


def test_a_bos_that_separates_documents_is_not_doubled(bring_in):
    with pytest.raises(UserError, match=r"separates documents by its BOS, '<\|endoftext\|>'"):
        bring_in(add_bos=True, bos_token="<|endoftext|>")


def test_tokens_of_documents_and_held_out_text(bring_in, tmp_path):
    """The bytes of text are the same with BOS, and bits per byte are its loss alone."""
    base, _ = bring_in(add_bos=True)
    with row_writer(tmp_path / "held_out.parquet", HELD_OUT_SCHEMA) as rows:
        for text in ("one é", "two"):
            rows.add(0, "id", "", text)
    held_out = first_tokens(tmp_path / "held_out.parquet", ModelTokenizer(base), 100)
    assert held_out.start_token == BOS and held_out.bytes.tolist() == [6, 3]
    assert held_out.tokens.tolist() == [*"one étwo".encode()]
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    report = bits_per_byte(model, held_out, 64, 2)
    losses = []
    for text in ("one é", "two"):
        ids = torch.tensor([[BOS, *text.encode()]])
        logits = model(input_ids=ids).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item())
    assert report["tokens"] == 9
    assert report["bits_per_byte"] == pytest.approx(sum(losses) / np.log(2) / 9, rel=1e-5)


@pytest.mark.parametrize("add_bos", [True, None])
def test_a_document_is_bos_text_and_eos(add_bos, bring_in, tmp_path):
    base, _ = bring_in(add_bos=add_bos)
    tokenizer, output = ModelTokenizer(base), io.BytesIO()
    columns = [pa.array(column, pa.large_string()) for column in (("a", "b"), ("", ""), ("one é", "two"))]
    with row_writer(tmp_path / "held_out.parquet", HELD_OUT_SCHEMA) as aside:
        rules, split = TokenQualityFilter(**LOOSE), HeldOut(share=0, group_by="text")
        done = Tokenization(tokenizer, rules, split, output, aside)
        list(done.add(*columns))
    bos = [BOS] if add_bos else []
    expected = [*bos, *"one é".encode(), 256, *bos, *b"two", 256]
    assert np.frombuffer(output.getvalue(), tokenizer.dtype).tolist() == expected
    assert done.ends == [len(bos) + 7, len(expected)] and done.tokens == len(expected)
    assert done.table.counts["kept"] == [2, 9, len(expected)]
