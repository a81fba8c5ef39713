"""Runs in two stages, and runs that continue others: which rows they see, and that nothing is lost."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packed_mixture import LENGTH, write_packed
from safetensors.torch import load_file
from train_settings import SETTINGS, planned, several

from cpt.config_runs import Train
from cpt.errors import UserError
from cpt.train.batches import rows_of_step
from cpt.train.continuation import load_optimizer
from cpt.train.plan_run import make_plan

CONSTANT = {"schedule": "infinite", "constant_learning_rate": 1e-3, "warmup": 0, "cooldown": 0, "decay": 0}
TRAIN = Train.model_validate(SETTINGS | CONSTANT)
TOKENS = 24 * LENGTH  # six global batches of 4


def ledger(name: str, sequences: int, **changes) -> dict:
    packed = {"dtype": "uint16", "tokenizer_sha256": "t", "sequences_sha256": name, "sequence_length": LENGTH}
    return {"mixture": name, "sequences": sequences, "tokens": sequences * LENGTH, **packed, **changes}


WEB = ledger("web", 100)


def plan(tokens: int, *ledgers: dict, switch_at: float | None = None, continued: dict | None = None) -> dict:
    return make_plan("late", tokens, 1, TRAIN, [*ledgers], 128, switch_at, continued)


@pytest.mark.parametrize(
    ("sequences", "at", "before"), [(40, 0.8, 32), (41, 0.8, 36), (7, 0.1, 4), (8, 0.95, 4), (40, 0.7, 28)]
)
def test_switch_falls_between_two_steps_and_every_row_is_seen_once(sequences, at, before):
    run_plan = plan(sequences * LENGTH, WEB, ledger("books", 50), switch_at=at)
    assert [(s["mixture"], s["first_sequence"], s["sequences"]) for s in run_plan["stages"]] == [
        ("web", 0, before),
        ("books", 0, sequences - before),
    ]
    seen = [rows_of_step(step, run_plan) for step in range(run_plan["steps"])]
    assert all(earlier[0] <= later[0] for earlier, later in pairwise(seen))
    for stage, size in ((0, before), (1, sequences - before)):
        assert [row for number, rows in seen if number == stage for row in rows] == list(range(size))
    assert all(len(rows) == 4 for _, rows in seen[:-1])
    with pytest.raises(IndexError):
        rows_of_step(run_plan["steps"], run_plan)


def test_second_mixture_too_small():
    with pytest.raises(UserError, match=r"runs\.late\.tokens.*8 of this mixture.*'books' has 7.*lower"):
        plan(40 * LENGTH, WEB, ledger("books", 7), switch_at=0.8)


def test_mixtures_packed_differently_and_a_run_of_one_step_are_refused():
    with pytest.raises(UserError, match=r"runs\.late\.switch.*'web' and 'books'.*sequence_length: 64 and 32"):
        plan(40 * LENGTH, WEB, ledger("books", 50, sequence_length=32), switch_at=0.8)
    with pytest.raises(UserError, match=r"aren't packed alike.*tokenizer_sha256: 't' and 'u'"):
        plan(40 * LENGTH, WEB, ledger("books", 50, tokenizer_sha256="u"), switch_at=0.8)
    with pytest.raises(UserError, match=r"runs\.late\.switch: the run has one step only"):
        plan(4 * LENGTH, WEB, ledger("books", 50), switch_at=0.8)


def test_continuing_run_begins_where_the_earlier_ones_ended():
    first = plan(40 * LENGTH, WEB, ledger("books", 50), switch_at=0.8)
    second = plan(30 * LENGTH, WEB, continued=first)
    third = plan(5 * LENGTH, ledger("books", 50), continued=second)
    assert second["stages"][0]["first_sequence"] == 32 and third["stages"][0]["first_sequence"] == 8
    assert [rows_of_step(step, third)[1] for step in (0, 1)] == [range(8, 12), range(12, 13)]
    assert third["rows_used"] == {"web": 62, "books": 13}
    with pytest.raises(UserError, match=r"39 of this mixture, from row 62 on.*'web' has 100"):
        plan(39 * LENGTH, WEB, continued=third)


@pytest.fixture(scope="module")
def books(tmp_path_factory) -> Path:
    """A second mixture, of falling token ids."""
    sequences = (100 - np.arange(12 * LENGTH).reshape(12, LENGTH) % 101).tolist()
    folder = write_packed(tmp_path_factory.mktemp("books"), [[sequence] for sequence in sequences])
    packed_ledger = json.loads((folder / "ledger.json").read_text())
    (folder / "ledger.json").write_text(json.dumps(packed_ledger | {"mixture": "books"}))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder, books) -> Path:
    """Trainings of one process at a constant rate, whole and in parts."""
    root = tmp_path_factory.mktemp("continuation")

    def training(
        name: str, tokens: int, model: Path, *folders: Path, stop_after: int | None = None, **named
    ) -> dict:
        return {
            "plan": planned(tokens, *folders, **CONSTANT, **named),
            "model_folder": str(model),
            "sequences_folders": [str(folder) for folder in folders],
            "work": str(root / name),
            "keep_optimizer": name in ("half", "most"),
            "stop_after": stop_after,
        }

    half = training("half", TOKENS // 2, model_folder, packed_folder)
    most = training("most", TOKENS * 2 // 3, model_folder, packed_folder)
    rest = (TOKENS // 2, root / "half" / "model", packed_folder)
    listed = [
        training("whole", TOKENS, model_folder, packed_folder),
        half,
        training("rest", *rest, continued=half["plan"]),
        training("resumed", *rest, continued=half["plan"], stop_after=2),
        training("resumed", *rest, continued=half["plan"]),
        training("blend", TOKENS, model_folder, packed_folder, books, switch_at=2 / 3),
        most,
        training("books", TOKENS // 3, root / "most" / "model", books, continued=most["plan"]),
    ]
    several(listed, 1, root)
    return root


@pytest.mark.parametrize("name", ["rest", "resumed"])
def test_two_runs_of_n_steps_are_one_of_2n(trained, name):
    weights = [(trained / run / "model" / "model.safetensors").read_bytes() for run in ("whole", name)]
    assert weights[0] == weights[1]
    whole, half, rest = (pd.read_csv(trained / run / "metrics.csv").loss for run in ("whole", "half", name))
    assert list(whole) == [*half, *rest]


def test_switching_is_continuing_on_the_other_mixture(trained):
    weights = [(trained / run / "model" / "model.safetensors").read_bytes() for run in ("blend", "books")]
    assert weights[0] == weights[1]
    stages = json.loads((trained / "blend" / "run.json").read_text())["stages"]
    assert [(stage["mixture"], stage["sequences"]) for stage in stages] == [("domain", 16), ("books", 8)]


def test_moments_are_kept_only_where_a_run_continues(trained):
    moments, updates = load_optimizer(trained / "half" / "model", "float32")
    weights = load_file(trained / "half" / "model" / "model.safetensors")
    assert updates == 3 and {f"exp_avg.{name}" for name in weights} < set(moments)
    with pytest.raises(UserError, match=r"optimizer\.safetensors: not there, but the run continues"):
        load_optimizer(trained / "whole" / "model", "float32")
