"""The plan of an experiment: its figures against measured or published ones, and each of its warnings."""

import json

import pytest
import yaml
from tests.test_config import ROOT, merged

from cpt import sizes
from cpt.config import load
from cpt.train import costs
from cpt.train.costs import KNOWN_MODELS, shape_of, state_bytes, step_bytes
from cpt.train.plan import ExperimentPlan
from cpt.train.plan_checks import access_warnings, gpu_warnings, scoring_hours
from cpt.train.recommendation import FILLED, GPU_GIGABYTES, recommended

MOBILE = KNOWN_MODELS["facebook/MobileLLM-125M"]


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """An access token of the hub: without one, plan warns of the paper's gated model."""
    monkeypatch.setenv("HF_TOKEN", "hf_x")


def plan_of(*overlays: dict, local_bytes: dict | None = None) -> ExperimentPlan:
    config = load(merged(*overlays))
    return ExperimentPlan(config, shape_of(config.base, None), local_bytes or {})


def test_known_models_have_the_parameters_that_their_authors_state():
    stated = {
        "facebook/MobileLLM-125M": 124.6,
        "facebook/MobileLLM-350M": 345.3,
        "HuggingFaceTB/SmolLM2-135M": 134.5,
        "HuggingFaceTB/SmolLM2-135M-Instruct": 134.5,
        "HuggingFaceTB/SmolLM2-360M": 361.8,
        "HuggingFaceTB/SmolLM2-1.7B": 1711.4,
    }
    counted = {name: shape.parameters / 1e6 for name, shape in KNOWN_MODELS.items()}
    assert counted == pytest.approx(stated, abs=0.06)


def test_shapes_formula_counts_the_parameters_of_transformers():
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = costs.Shape(2, 64, 4, 2, 96, 300, False, 128)
    names = {name for name in costs.Shape.__dataclass_fields__ if name != "counted"}
    model = LlamaForCausalLM(LlamaConfig(**{name: getattr(shape, name) for name in names}))
    assert shape.parameters == sum(p.numel() for p in model.parameters())


def test_papers_experiment_takes_the_hours_that_the_paper_states():
    plan = plan_of()
    assert (plan.steps("cpt-400M"), plan.steps("cpt-1B")) == (417, 521)
    # Paper 4.2.2: about 3 hours on 3 GPUs, about 4 on 6.
    assert plan.hours("cpt-400M") == pytest.approx(9.0, abs=0.1)
    assert plan.hours("cpt-1B") == pytest.approx(24, rel=0.1)
    page = plan.markdown()
    assert (
        "124.6M parameters" in page and "| cpt-400M | 400M | 3.209 | 480 (960K) | 417 | 42 | 3 GPU |" in page
    )
    assert "zero_stage 3, offload optimizer and parameters** (set)" in page
    assert "cpt-400M 480, cpt-1B 960 sequences" in page  # the paper's silent doubling of the batch


def test_offload_and_stages_divide_sixteen_bytes_per_parameter():
    parameters = MOBILE.parameters

    def held(engine, stage=0, offload=(), precision="bf16", moments="float32"):
        bytes_by_device = state_bytes(MOBILE, engine, stage, list(offload), 4, precision, moments)
        return bytes_by_device["gpu"] / parameters, bytes_by_device["cpu"] / parameters

    assert held("ddp", precision="float32") == (16, 0)
    assert held("ddp") == (18, 0)  # and autocast's copies
    assert (held("ddp", moments="bf16"), held("ddp", moments="8bit")) == ((14, 0), (12, 0))
    assert held("deepspeed", 1) == (4 + 12 / 4, 0)  # gradients in bfloat16; else DeepSpeed's are float32
    assert held("deepspeed", 1, ["optimizer"]) == (2, 4 + 12 / 4)
    assert held("deepspeed", 2, ["optimizer"]) == (2, 16 / 4)
    gathered = MOBILE.vocab_size * MOBILE.hidden_size * 2 / parameters
    assert held("deepspeed", 3) == pytest.approx((18 / 4 + gathered, 0))
    assert held("fsdp", 0, ["optimizer", "parameters"]) == pytest.approx((gathered, 16 / 4))


def test_activations_are_near_the_measured_ones():
    # docs/performance-planning.md, `135m`: 3,293 MB beside weights, gradients and optimizer.
    smol = KNOWN_MODELS["HuggingFaceTB/SmolLM2-135M"]
    whole = step_bytes(smol, 1, 2000, False, "float32", gpu=False)
    assert sum(whole.values()) == pytest.approx(3.293e9, rel=0.1)
    checkpointed = step_bytes(smol, 1, 2000, True, "float32", gpu=False)
    assert checkpointed["activations"] < whole["activations"] / 10


ONE_GPU = {"gpus": 1, "train": {"micro_batch": 4, "accumulate": 1}}


def test_the_papers_plan_only_warns_of_unlike_batches():
    (warning,) = plan_of().warnings()
    assert warning.startswith("train.global_batch: runs to be compared")


@pytest.mark.parametrize(
    ("overlay", "warning"),
    [
        (
            {"corpora": {"fineweb_edu": {"shards": 1}}},
            "1B tokens of fineweb_edu, which is expected to have 600M",
        ),
        ({"runs": {"few": {"tokens": "4M", **ONE_GPU, "gpus": 6}}}, None),
        ({"runs": {"few": {"tokens": "8M", "gpus": 3}}}, "runs.few: 9 steps are few"),
        ({"runs": {"tiny": {"tokens": "4K", **ONE_GPU}}}, "4K don't fill one global batch of 4 sequences"),
        ({"train": {"warmup": 0.6}}, "runs.cpt-1B.train.warmup: 313 of 521 steps are warmup"),
        (
            {"train": {"global_batch": 500}},
            "500 sequences per step can't be dealt out evenly over 6 processes",
        ),
        ({"packing": {"sequence_length": 4096}}, "4096 is over the model's context of 2048"),
        (
            {"train": {"gradient_checkpointing": False}},
            "runs.cpt-400M.train.micro_batch: about 143 GB per GPU are expected, and an A100 or H100 has 80; "
            "with runs.cpt-400M.train: {engine: ddp, offload: [], gradient_checkpointing: false, "
            "micro_batch: 32, global_batch: 480} they would be 59.6",
        ),
        (
            {"train": {"engine": "ddp", "offload": []}},
            "runs.cpt-400M.train.gradient_checkpointing: its second forward pass costs about a quarter of "
            "the speed, and without it a GPU of 24 GB has room for micro_batch: 8",
        ),
    ],
)
def test_warnings_name_the_key(overlay, warning):
    warnings = plan_of(overlay).warnings()
    if warning is None:
        assert not [w for w in warnings if "runs.few" in w]
    else:
        assert any(warning in line for line in warnings), warnings


def test_recommendation_is_the_fastest_that_fits():
    """By hand, for 480 sequences of 2,000 tokens over 3 GPUs: engine, checkpointing, micro-batch."""
    expected = {
        "facebook/MobileLLM-125M": {24: ("ddp", False, 8), 40: ("ddp", False, 16), 80: ("ddp", False, 32)},
        "HuggingFaceTB/SmolLM2-360M": {
            8: ("fsdp", False, 1),
            24: ("ddp", False, 4),
            80: ("ddp", False, 16),
            141: ("ddp", False, 32),
        },
        "HuggingFaceTB/SmolLM2-1.7B": {
            24: ("fsdp", False, 1),
            40: ("ddp", True, 2),
            80: ("ddp", False, 4),
        },
    }
    for name, by_size in expected.items():
        for gigabytes, wanted in by_size.items():
            advice = recommended(KNOWN_MODELS[name], gigabytes * 1e9, 160, 2_000, 3, "bf16")
            setting = advice.engine, advice.checkpointing, advice.micro_batch, advice.moments
            assert setting == (*wanted, "float32")[:4], (name, gigabytes)


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_recommendation_fits_and_the_next_larger_micro_batch_does_not(name, processes):
    shape = KNOWN_MODELS[name]
    for gigabytes in GPU_GIGABYTES:
        advice = recommended(shape, gigabytes * 1e9, 2**20, 2_000, processes, "bf16")
        held = state_bytes(
            shape, advice.engine, advice.zero_stage, advice.offload, processes, "bf16", advice.moments
        )
        for size, fits in ((advice.micro_batch, True), (2 * advice.micro_batch, False)):
            step = step_bytes(shape, size, 2_000, advice.checkpointing, "bf16", gpu=True)
            assert (held["gpu"] + sum(step.values()) <= FILLED * gigabytes * 1e9) == fits
        assert (advice.cpu_bytes > 0) == (advice.engine == "deepspeed")


def test_what_fits_nowhere_else_is_offloaded_or_refused():
    medium, large = (KNOWN_MODELS[f"HuggingFaceTB/SmolLM2-{size}"] for size in ("360M", "1.7B"))
    advice = recommended(medium, 8e9, 6, 2_000, 1, "bf16")
    assert (advice.engine, advice.moments, advice.micro_batch, advice.cpu_bytes) == ("ddp", "bf16", 2, 0)
    advice = recommended(large, 24e9, 6, 2_000, 1, "bf16")
    assert (advice.engine, advice.moments, advice.micro_batch, advice.cpu_bytes) == ("fsdp", "8bit", 2, 0)
    assert advice.keys(6).endswith("micro_batch: 2, global_batch: 6, moments: 8bit}")
    advice = recommended(large, 16e9, 6, 2_000, 1, "bf16")
    assert (advice.engine, advice.zero_stage, advice.offload) == ("deepspeed", 3, ["optimizer", "parameters"])
    assert advice.micro_batch == 6  # a process's whole share, whatever its size
    assert recommended(large, 1e9, 6, 2_000, 1, "bf16") is None


def test_page_recommends_settings_that_the_config_accepts():
    page = plan_of().markdown()
    rows = page.partition("cpt-1B, 6 GPU:")[2].splitlines()
    row = next(line for line in rows if line.startswith("| 80 GB | "))
    settings, micro_batches, together, offloaded = (cell.strip(" `") for cell in row.split("|")[2:6])
    assert (micro_batches, together, offloaded) == ("5", "59.6", "0")
    plan = plan_of({"runs": {"cpt-1B": {"train": yaml.safe_load(settings)}}})
    train = plan.train["cpt-1B"]
    assert (train.engine, train.offload, train.gradient_checkpointing) == ("ddp", [], False)
    assert plan.micro_batch("cpt-1B") == 32 and plan.global_batch("cpt-1B") == 960
    assert plan.memory("cpt-1B", "ddp", 0, [])["gpu"] / 1e9 == pytest.approx(float(together), rel=0.01)
    assert not [line for line in plan.warnings() if "cpt-1B.train" in line]


def test_nothing_is_recommended_without_gpus_or_without_a_known_size():
    own = {"runs": {"cpt-400M": None, "cpt-1B": {"gpus": 0, "cpus": 2}}}
    for overlay in (own, {"base": {"repo": "someone/unheard-of"}}):
        assert "Recommended" not in plan_of(overlay).markdown()


def test_size_of_own_files_sets_the_expected_tokens():
    own = {
        "corpora": {"fineweb_edu": None, "own": {"source": "local", "files": "*.txt"}},
        "domain": "own",
        "mixtures": {"domain": {"fineweb_edu": None, "own": 1.0}},
        "runs": {"cpt-400M": None, "cpt-1B": {"tokens": "1M"}},
    }
    plan = plan_of(own, local_bytes={"own": 900_000})
    assert any("1M tokens of own, which is expected to have 200K" in line for line in plan.warnings())
    assert (
        plan_of(own).estimate("own") is None
        and "Without own, whose size isn't known" in plan_of(own).markdown()
    )


def test_size_of_a_model_is_unknown_until_it_is_imported(tmp_path):
    other = {"base": {"repo": "someone/unheard-of"}}
    page = plan_of(other).markdown()
    assert "its size isn't known" in page and "| cpt-400M | 400M | ? |" in page
    imported = tmp_path / "base"
    imported.mkdir()
    shape = {name: getattr(MOBILE, name) for name in costs.SHAPE_KEYS}
    shape |= {"parameters": 123_456_789, "layer_parameters": 3_500_000}
    (tmp_path / "base.json").write_text(json.dumps({"shape": shape, "adds_bos": True}))
    config = load(merged(other))
    shape_of_import = shape_of(config.base, imported)
    assert (shape_of_import.parameters, shape_of_import.layer_parameters) == (123_456_789, 3_500_000)

    assert "BOS before each document: as the base model was trained" in page
    plan = ExperimentPlan(config, shape_of_import, {}, costs.bos_of(config.packing, imported))
    assert "BOS before each document: yes." in plan.markdown()
    expected = "evaluate.add_bos_token: false, but documents are trained on with BOS before them"
    assert any(expected in warning for warning in plan.warnings())
    without = config.packing.model_copy(update={"add_bos": False})
    plan = ExperimentPlan(config, shape_of_import, {}, costs.bos_of(without, imported))
    assert "BOS before each document: no." in plan.markdown()
    assert not any("add_bos_token" in warning for warning in plan.warnings())


@pytest.mark.parametrize("overlay", sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml")))
def test_every_experiment_can_be_planned(overlay):
    plan = plan_of(yaml.safe_load((ROOT / "experiments" / f"{overlay}.yaml").read_text()))
    page = plan.markdown()
    assert all(f"| {run} | " in page for run in plan.config.trained_runs)
    wrong = [line for line in plan.warnings() if "which is expected to have" in line]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("rate", "warning"),
    [
        (5e-7, "runs.cpt-1B.train.learning_rate: 5e-07 is below 1e-06, at which a model hardly changes"),
        (1e-6, None),
        (1e-3, None),
        (
            2e-3,
            "runs.cpt-1B.train.learning_rate: 0.002 is over 0.001, at which continued pre-training mostly",
        ),
    ],
)
def test_warning_of_an_unusual_learning_rate(rate, warning):
    warnings = plan_of({"runs": {"cpt-1B": {"train": {"learning_rate": rate}}}}).warnings()
    lines = [line for line in warnings if "learning_rate" in line]
    assert len(lines) == (warning is not None) and all(line.startswith(warning) for line in lines)


def test_warning_of_runs_that_need_more_gpus_than_the_machine_has():
    config = load(merged())
    (warning,) = gpu_warnings(config, 4, cluster=False)
    assert "this machine has 4 GPUs and no Slurm, and the runs ask for more (cpt-1B 6)" in warning
    assert gpu_warnings(config, 6, cluster=False) == gpu_warnings(config, 0, cluster=True) == []
    assert warning in ExperimentPlan(config, MOBILE, {}, gpus=4).markdown()


def test_warning_of_a_gated_model_without_a_token(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    config = load(merged())
    (warning,) = access_warnings(config)
    assert warning.startswith(
        "base.repo: facebook/MobileLLM-125M is gated, and there is no access token here"
    )
    (tmp_path / "token").write_text("hf_x")
    assert access_warnings(config) == []
    (tmp_path / "token").unlink()
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert access_warnings(config) == []


def test_the_time_of_scoring_follows_from_items_runs_and_parameters():
    whole = scoring_hours(load(merged()), KNOWN_MODELS["HuggingFaceTB/SmolLM2-135M"])
    # Three runs; each scores MMLU twice, as letters and as text.
    assert whole == pytest.approx(3 * 3.3 * (34_007 + 14_042) / 34_007)
    fewer = load(merged({"evaluate": {"items": 100}, "runs": {"cpt-1B": None}}))
    assert scoring_hours(fewer, MOBILE) == pytest.approx(2 * 3.3 * 124.6 / 134.5 * 800 / 34_007, rel=1e-3)
    assert "Scoring all runs: about " in plan_of().markdown()


def test_disk_counts_the_states_that_a_trunk_keeps():
    trunk = {"tokens": "1B", "gpus": 3}
    parameters = MOBILE.parameters
    without, kept = (
        plan_of({"runs": {"trunk": trunk | more}}).disk() for more in ({}, {"keep_every": "200M"})
    )
    more = {kind: (kept[kind] - without[kind]) / parameters for kind in kept if kept[kind] != without[kind]}
    # Four states of weights and moments: in checkpoints and the work folder's model, later in the model.
    assert more == {"checkpoints, per run under way": 2 * 4 * 12, "models": 4 * 12}
    job = sizes.training_bytes_per_parameter("float32", 2, sizes.kept_states(10**9, 2 * 10**8))
    assert job == 12 * (2 + 1 + 3 * 4) + 4
    assert [sizes.kept_states(1000, every) for every in (0, 400, 500, 999)] == [0, 2, 1, 1]


def test_proxies_have_their_hours():
    overlay = {
        "corpora": {"web": {"source": "local", "files": "web/*", "shards": 1}},
        "general": "web",
        "advise": {"tokens": ["1B"], "learning_rates": [3e-5, 1e-4, 3e-4], "replay": [0], "like": "cpt-400M"},
    }
    plan = plan_of(overlay)
    hours = plan.hours("cpt-400M") * 110 / 400
    assert f"4 proxies: 110M tokens, about {hours:.3g} device-hours." in plan.markdown()
