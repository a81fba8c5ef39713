"""Held-out loss during training: correct, once at each due step, and without an effect on training."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
from one_training import without_cuda
from packed_mixture import LENGTH
from torch._dynamo.testing import CompileCounter
from train_settings import BOTH, SETTINGS, planned, several
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cpt.evaluate.bits import bits_per_byte, document_losses
from cpt.token_windows import HeldOut, load_held_out
from cpt.train.fsdp_engine import FsdpEngine
from cpt.train.metrics import MetricsFile
from cpt.train.plain_engine import PlainEngine
from cpt.train.validation import HeldOutLosses

ENGINES = {
    "ddp": {"engine": "ddp"},
    "fsdp": {"engine": "fsdp"},
    "zero 2, offloaded": {"engine": "deepspeed", "zero_stage": 2, "offload": ["optimizer"]},
    "zero 3, offloaded": {"engine": "deepspeed", "zero_stage": 3, "offload": BOTH},
}
RESUMED = ("ddp", "zero 3, offloaded")
WHEN = {"every": 600, "tokens": 500, "first_steps": 1}
SEQUENCES = 27  # six global batches of 4 (256 tokens), and one of 3
STEPS = [0, 1, 3, 5, 7]  # step 3 reaches 600 tokens, step 5 1,200


def held_out(seed: int, lengths: list[int]) -> HeldOut:
    generator = np.random.default_rng(seed)
    tokens = np.cumsum(generator.integers(0, 3 + 40 * seed, sum(lengths))) % 101
    return HeldOut(tokens.astype(np.uint32), np.cumsum(lengths), 3 * np.array(lengths), 100)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Documents of many lengths: one token, several windows, exactly one and exactly two windows."""
    folder = tmp_path_factory.mktemp("held_out")
    for seed, lengths in enumerate([[1, 200, LENGTH, 17], [30, 2 * LENGTH, 5]]):
        held_out(seed, lengths).save(folder / f"{seed}.npz")
    return {"domain": str(folder / "0.npz"), "general": str(folder / "1.npz")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder, packed_folder, files, gpu) -> Path:
    """A folder with trainings on two processes: ENGINE/measured, /plain and some /resumed; and on a GPU that
    isn't there: GPU/measured and /plain."""
    root = tmp_path_factory.mktemp("held_out_runs")
    listed = []
    for name, engine in ENGINES.items():
        for kind in ("measured", "plain", *(["resumed", "resumed"] if name in RESUMED else [])):
            when = {} if kind == "plain" else {"held_out": WHEN}
            settings = {"gradient_checkpointing": True} | engine | when
            again = any(training["work"].endswith(f"{name}/{kind}") for training in listed)
            listed.append(
                {
                    "plan": planned(SEQUENCES * LENGTH, packed_folder, **settings),
                    "model_folder": str(model_folder),
                    "sequences_folders": [str(packed_folder)],
                    "work": str(root / name / kind),
                    "held_out": files,
                    "stop_after": 4 if kind == "resumed" and not again else None,
                }
            )
    several(listed, 2, root)
    if gpu is not None:
        first = json.loads(json.dumps(listed[:2]).replace(f"{root}/ddp/", f"{root}/GPU/"))
        several(first, 1, root, gpu())
    return root


@pytest.mark.parametrize("name", [*ENGINES, pytest.param("GPU", marks=without_cuda)])
def test_values_are_those_of_bits_per_byte_and_training_is_the_same(trained, model_folder, files, name):
    measured, plain = trained / name / "measured", trained / name / "plain"
    curve = pd.read_csv(measured / "held_out.csv")
    by_document = pd.read_csv(measured / "held_out_documents.csv")
    metrics = pd.read_csv(measured / "metrics.csv")
    assert list(curve.step) == [step for step in STEPS for _ in files]
    assert list(curve.corpus) == list(files) * len(STEPS)
    tokens = dict(zip(metrics.step, metrics.tokens, strict=True)) | {0: 0}
    assert list(curve.tokens) == [tokens[step] for step in curve.step]
    for step, folder in ((0, model_folder), (7, measured / "model")):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        for corpus, path in files.items():
            expected = bits_per_byte(model, load_held_out(Path(path)), LENGTH, 3)
            (row,) = curve[(curve.step == step) & (curve.corpus == corpus)].itertuples()
            assert row.loss == pytest.approx(expected["loss"], abs=1e-5)
            assert row.bits_per_byte == pytest.approx(expected["bits_per_byte"], abs=1e-5)
            losses = document_losses(model, load_held_out(Path(path)), LENGTH, 3)
            rows = by_document[(by_document.step == step) & (by_document.corpus == corpus)]
            assert list(rows.document) == list(range(len(losses)))
            assert list(rows.nats) == pytest.approx(losses, rel=1e-4)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (measured, plain)]
    assert weights[0] == weights[1]
    assert list(metrics.loss) == list(pd.read_csv(plain / "metrics.csv").loss)
    assert (plain / "held_out.csv").read_text() == "step,tokens,corpus,loss,bits_per_byte\n"
    assert (plain / "held_out_documents.csv").read_text() == "step,corpus,document,nats\n"
    assert json.loads((plain / "run.json").read_text())["held_out_seconds"] == 0


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_run_leaves_the_same_bytes(trained, name):
    one, other = (trained / name / kind for kind in ("measured", "resumed"))
    summary = json.loads((trained / name / "resumed" / "run.json").read_text())
    assert summary["resumed_after_step"] == 4
    for file in ("held_out.csv", "held_out_documents.csv"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def losses(tmp_path, model, files, make_engine=PlainEngine, **settings) -> HeldOutLosses:
    plan = {"sequence_length": LENGTH, "steps": 7, "execution": {"held_out": WHEN}}
    device = torch.device("cpu")
    engine = make_engine(model, SETTINGS | settings, device, 1)
    paths = {corpus: Path(path) for corpus, path in files.items()}
    curves = (tmp_path / "held_out.csv", tmp_path / "held_out_documents.csv")
    return HeldOutLosses(paths, plan, 3, engine, model, device, *curves, 0)


def assert_bits_per_byte(tmp_path, model, files) -> None:
    """The losses of held_out.csv are those of scoring."""
    for row in pd.read_csv(tmp_path / "held_out.csv").itertuples():
        expected = bits_per_byte(model.eval(), load_held_out(Path(files[row.corpus])), LENGTH, 3)
        assert row.loss == pytest.approx(expected["loss"], abs=1e-5)


def test_windows_as_long_as_the_context_without_dropout_or_random_numbers(tmp_path, files):
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": 101, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "max_position_embeddings": LENGTH, "attention_dropout": 0.5},
    )
    model = LlamaForCausalLM(config).train()
    before = torch.get_rng_state()
    measured = losses(tmp_path, model, files)
    measured.after(0, 0, 0)
    measured.close()
    assert torch.equal(torch.get_rng_state(), before) and all(m.training for m in model.modules())
    assert measured.seconds > 0 and all(p.grad is None for p in model.parameters())
    assert_bits_per_byte(tmp_path, model, files)


def test_run_killed_before_its_first_checkpoint_measures_the_start_once(tmp_path, model_folder, files):
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    texts = []
    for _ in range(2):
        measured = losses(tmp_path, model, files)
        measured.after(0, 0, 0)
        texts.append((tmp_path / "held_out.csv").read_text())
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 3
    kept = MetricsFile(tmp_path / "held_out.csv", 5, ("step", "tokens", "corpus", "loss", "bits_per_byte"))
    kept.close()
    assert (tmp_path / "held_out.csv").read_text() == texts[0]


@pytest.mark.parametrize("make_engine", [PlainEngine, FsdpEngine])
def test_held_out_text_of_twenty_shapes_leaves_training_compiled(
    make_engine, tmp_path, model_folder, monkeypatch
):
    """Training compiles a layer and the loss for two sizes of micro-batches; held-out text compiles none."""
    compiled = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiled))
    torch.compiler.reset()
    lengths = [length for length in range(20, 40) for _ in range(3)]  # 20 micro-batches of 3 equal lengths
    held_out(0, lengths).save(tmp_path / "many.npz")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = AutoModelForCausalLM.from_pretrained(model_folder).train()
        measured = losses(tmp_path, model, {"domain": tmp_path / "many.npz"}, make_engine, compile=True)
        counts = []
        for _ in range(2):
            measured.after(0, 0, 0)
            counts.append(compiled.frame_count)
            for rows in (3, 2, 3):
                batch = torch.zeros(rows, LENGTH, dtype=torch.int64), None, torch.ones(rows, LENGTH - 1)
                measured.engine.backward(measured.engine.loss(*batch))
                measured.engine.step(0.0)
                counts.append(compiled.frame_count)
    finally:
        dist.destroy_process_group()
    first, second = counts[:4], counts[4:]
    assert first[0] == 0 and first[1] >= 2 and first[2] > first[1]  # layer and loss, and again for 2 rows
    assert {first[2], *second} == {first[3]}


def test_windows_fit_a_context_that_is_a_table(tmp_path, files):
    """GPT-Neo's mask has a row for each position of the context, and no more."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        **{"model_type": "gpt_neo", "vocab_size": 101, "hidden_size": 32, "num_layers": 2, "num_heads": 2},
        **{"attention_types": [[["global", "local"], 1]], "window_size": 8},
        max_position_embeddings=LENGTH,
    )
    model = AutoModelForCausalLM.from_config(config)
    measured = losses(tmp_path, model, files)
    measured.after(0, 0, 0)
    measured.close()
    assert_bits_per_byte(tmp_path, model, files)
