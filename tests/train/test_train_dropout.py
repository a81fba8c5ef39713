"""Dropout: what is dropped depends on the micro-batch, and the log says so."""

import json

import numpy as np
import pytest
from forked import Session
from one_training import Training
from transformers import GPT2Config, GPTNeoConfig, LlamaConfig

from cpt.train.dropout import dropout_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory, dropout_model, packed_folder):
    """A model with dropout, trained with two sizes of micro-batch."""
    folder, trainings = tmp_path_factory.mktemp("dropout"), {}
    for size in (1, 4):
        run = Training(folder / str(size), dropout_model, packed_folder, tokens=1024, micro_batch=size)
        with Session(run) as session:
            session.finish()
        trainings[size] = run
    return trainings


def test_losses_depend_on_the_micro_batch_and_the_log_says_so(runs):
    losses = [run.metrics.loss for run in runs.values()]
    assert np.abs(losses[0] - losses[1]).max() > 1e-4
    for run in runs.values():
        log = (run.folder / "log").read_text()
        assert "the model has dropout (attention_dropout 0.1)" in log and "train.micro_batch" in log
        assert json.loads((run.folder / "run.json").read_text())["dropout"] == {"attention_dropout": 0.1}


def test_a_model_without_dropout_is_not_logged(reference):
    assert "dropout" not in (reference.folder / "log").read_text()
    assert json.loads((reference.folder / "run.json").read_text())["dropout"] == {}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT2Config(), {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}),
        (GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.2), {"resid_pdrop": 0.2}),
        (GPTNeoConfig(classifier_dropout=0.1), {}),
        (LlamaConfig(), {}),
    ],
)
def test_only_what_drops_something_in_a_causal_model(config, expected):
    assert dropout_of(config) == expected
