"""A reference's losses: correct, and the same bytes after kills and on any number of processes."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from forked import Session, kill_after, repeat
from one_training import without_cuda
from packed_mixture import LENGTH, write_packed
from torch.nn.functional import cross_entropy
from train_settings import TRAIN
from transformers import AutoModelForCausalLM

from cpt.errors import UserError
from cpt.files import sha256_of
from cpt.stage import arguments
from cpt.train.processes import EXIT_INTERRUPTED
from cpt.train.reference_losses import ReferenceLosses, require_tokenizer
from cpt.train.selection import SelectiveSequences

SCRIPT = TRAIN.with_name("reference_losses.py")


@pytest.fixture(scope="module")
def reference_model(tmp_path_factory, model_folder) -> Path:
    """The tiny model with a file in place of its tokenizer."""
    folder = tmp_path_factory.mktemp("reference_model") / "model"
    shutil.copytree(model_folder, folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def add_tokenizer(packed: Path, model: Path) -> Path:
    """Write the digest of the model's tokenizer into the packed mixture's ledger."""
    ledger = json.loads((packed / "ledger.json").read_text())
    ledger["tokenizer_sha256"] = sha256_of(model / "tokenizer.json")
    (packed / "ledger.json").write_text(json.dumps(ledger))
    return packed


@pytest.fixture(scope="module")
def mixture(tmp_path_factory, reference_model) -> Path:
    """Three and a half blocks, with padding in every third sequence."""
    tokens = np.random.default_rng(3).integers(0, 101, (3584, LENGTH)).tolist()
    sequences = [[row[:20], row[20 : LENGTH - 5 * (number % 3 == 0)]] for number, row in enumerate(tokens)]
    return add_tokenizer(write_packed(tmp_path_factory.mktemp("mixture"), sequences), reference_model)


class Scoring(SimpleNamespace):
    """A start of the script, in the form that tests/train/forked.py expects."""

    def __init__(self, folder: Path, model: Path, mixture: Path, scope: str = "sequences"):
        folder.mkdir(exist_ok=True)
        files = {"model": model, "packed": mixture, "losses": folder / "losses", "log": folder / "log"}
        words = arguments(**files, scope=scope, precision="bf16", device="cpu")
        super().__init__(folder=folder, output=folder / "losses", command=[str(SCRIPT), *words])

    @property
    def parts(self) -> int:
        return len(list((self.folder / ".losses.parts").glob("*/[0-9]*.npy")))

    def remove_outputs(self) -> None:
        shutil.rmtree(self.output, ignore_errors=True)

    def finish(self, processes: int = 1) -> bytes:
        with Session(self, processes) as session:
            session.finish()
        assert not (self.folder / ".losses.parts").exists()
        return (self.output / "losses.npy").read_bytes()


def test_killed_and_started_again_on_other_processes_gives_the_same_bytes(tmp_path, reference_model, mixture):
    expected = Scoring(tmp_path / "undisturbed", reference_model, mixture).finish()
    run = Scoring(tmp_path / "killed", reference_model, mixture)
    for wanted in (1, 2):
        kill_after(run, lambda wanted=wanted: wanted <= run.parts < 4)
        assert not run.output.exists()
    damaged = min((run.folder / ".losses.parts").glob("*/[0-9]*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert run.finish(processes=2) == expected
    assert "not a whole part" in (run.folder / "log").read_text()
    folders = (run.output, tmp_path / "undisturbed" / "losses")
    summaries = [json.loads((folder / "reference.json").read_text()) for folder in folders]
    assert summaries[0] | {"provenance": 0} == summaries[1] | {"provenance": 0}
    assert summaries[0]["losses_sha256"] == sha256_of(run.output / "losses.npy")
    assert summaries[0]["precision"] == "float32"  # on a CPU


def test_a_signal_stops_it_at_once(tmp_path, reference_model, mixture):
    run = Scoring(tmp_path / "run", reference_model, mixture)

    def attempt() -> bool:
        shutil.rmtree(run.folder / ".losses.parts", ignore_errors=True)
        with Session(run) as session:
            session.wait_until(lambda: run.parts > 0)
            return session.signal(signal.SIGUSR1) == [EXIT_INTERRUPTED]  # else scoring had ended

    repeat(1, attempt)
    assert run.parts > 0 and not run.output.exists()


@without_cuda
def test_on_a_gpu_that_isnt_there(tmp_path, reference_model, mixture, on_gpu):
    run, cpu = (Scoring(tmp_path / name, reference_model, mixture) for name in ("gpu", "cpu"))
    on_gpu(run)
    assert json.loads((run.output / "reference.json").read_text())["precision"] == "bf16"
    cpu.finish()
    losses, expected = (np.load(folder.output / "losses.npy").astype(float) for folder in (run, cpu))
    assert 0 < abs(losses - expected).max() < 0.1


@pytest.mark.parametrize("masking", [False, True])
def test_losses_are_the_models_own(tmp_path, reference_model, documents, masking):
    documents, packed, output = documents[:35], tmp_path / "packed", tmp_path / "losses"
    packed.mkdir()
    add_tokenizer(write_packed(packed, documents), reference_model)
    scoring = ReferenceLosses(
        reference_model, packed, masking, "float32", torch.device("cpu"), output, "code"
    )
    scoring.score(0, 1)
    scoring.assemble({})
    losses = SelectiveSequences(packed, masking, output, 0.5).reference_losses
    assert losses.dtype == np.float16 and losses.shape == (35, LENGTH - 1)
    model = AutoModelForCausalLM.from_pretrained(reference_model).eval()
    total = targets = 0
    for row, sequence in enumerate(documents):
        expected = np.zeros(LENGTH - 1)
        place = 0
        for ids in sequence if masking else [[token for document in sequence for token in document]]:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, :-1]
            each = cross_entropy(logits, torch.tensor(ids[1:], dtype=torch.int64), reduction="none").numpy()
            expected[place : place + len(each)] = each
            place += len(ids)
            total, targets = total + float(each.sum()), targets + len(each)
        np.testing.assert_allclose(losses[row], expected, rtol=6e-4, atol=1e-5)  # float16 has 11 bits
    summary = json.loads((output / "reference.json").read_text())
    assert summary["targets"] == targets and summary["mean_loss"] == pytest.approx(total / targets, rel=1e-5)


def test_another_tokenizer_is_refused(tmp_path, reference_model, mixture):
    ledger = json.loads((mixture / "ledger.json").read_text())
    with pytest.raises(UserError, match=r"tokenizer\.json: not the tokenizer that .* was made with"):
        require_tokenizer(reference_model, ledger | {"tokenizer_sha256": "0" * 64}, mixture)
    with pytest.raises(UserError, match=r"SHA-256 no such file instead.*train\.selection"):
        require_tokenizer(tmp_path, ledger, mixture)


def test_a_broken_reference_is_reported(tmp_path, reference_model, mixture):
    broken = tmp_path / "model"
    model = AutoModelForCausalLM.from_pretrained(reference_model)
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    model.save_pretrained(broken)
    shutil.copyfile(reference_model / "tokenizer.json", broken / "tokenizer.json")
    scoring = ReferenceLosses(broken, mixture, False, "float32", torch.device("cpu"), tmp_path / "o", "c")
    with pytest.raises(UserError, match=r"isn't a finite number on rows 0 to 31 of mixture 'domain'"):
        scoring.score(0, 1)
