"""The config: the paper's experiment exactly, overlays, and messages that help."""

import copy
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from cpt import config_merging
from cpt.config import load
from cpt.config_values import parse_count
from cpt.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PAPER = yaml.safe_load((ROOT / "config.yaml").read_text())


def merged(*overlays: dict) -> dict:
    """The paper's config with overlays."""
    return copy.deepcopy(config_merging.merged(PAPER, *overlays))


def problem(overlay: dict) -> str:
    with pytest.raises(UserError) as caught:
        load(merged(overlay))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("400M", 400_000_000),
        ("1B", 10**9),
        ("1.5B", 1_500_000_000),
        ("2_000", 2000),
        (7, 7),
        ("4.1M", 4_100_000),
    ],
)
def test_counts_with_units(text, count):
    assert parse_count(text) == count


def merged_by_snakemake(*overlays: dict) -> dict:
    """The config as rules/common.smk makes it from what Snakemake passes."""
    changes: dict = {}
    for overlay in overlays:
        update_config(changes, copy.deepcopy(overlay))
    update_config(config := copy.deepcopy(PAPER), changes)
    return config_merging.with_empty_sections(config, config_merging.merged(*overlays))


@pytest.mark.parametrize(
    ("overlays", "exam"),
    [
        ([{"evaluate": {"exam": {}}}], True),
        ([{"evaluate": {"exam": None}}, {"evaluate": {"exam": {}}}], True),
        ([{"evaluate": {"exam": {}}}, {"evaluate": {"exam": None}}], False),
        ([{"evaluate": {"exam": {"items": 20}}}, {"evaluate": {"exam": {}}}], True),
        ([{"evaluate": {}, "release": {}, "mixtures": {"domain": {}}}], False),
    ],
)
def test_an_empty_section_where_there_was_none_has_its_defaults(overlays, exam):
    """Snakemake's merge drops it."""
    assert (load(merged_by_snakemake(*overlays)).evaluate.exam is not None) == exam
    assert merged_by_snakemake(*overlays) == merged(*overlays)


def test_an_empty_section_that_has_no_defaults_is_refused():
    with pytest.raises(UserError, match=r"deduplicate\.near\.ngram: missing; it must be set"):
        load(merged_by_snakemake({"deduplicate": {"near": {}}}))
    with pytest.raises(UserError, match=r"train\.offload: "):
        load(merged_by_snakemake({"train": {"offload": {}}}))


def test_claims_are_those_of_the_papers_base_model():
    """Another base model is another experiment, unless the config says that it follows the paper."""
    assert load(merged()).shows_claims
    assert not load(merged({"claims": False})).shows_claims
    other = {"base": {"repo": "facebook/MobileLLM-350M"}}
    assert not load(merged(other)).shows_claims
    assert load(merged(other, {"claims": True})).shows_claims
    for name, shown in (("demo", True), ("own", False), ("smoke", False), ("seeds", True)):
        overlay = yaml.safe_load((ROOT / "experiments" / f"{name}.yaml").read_text())
        assert load(merged(overlay)).shows_claims == shown


@pytest.mark.parametrize("text", ["4X", "-1", "", "M", True, None, "1e3"])
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match=r"expected a count such as 400M, 1\.5B or 2_000, but .* was given"):
        parse_count(text)


@pytest.mark.parametrize("text", ["1.5", "0.0001K", -3])
def test_what_is_no_whole_count(text):
    with pytest.raises(ValueError, match=f"expected a whole count, zero or more, but {text!r} was given"):
        parse_count(text)


def test_a_count_is_reported_with_its_key():
    message = problem({"runs": {"cpt-1B": {"tokens": "1 billion"}}})
    assert "runs.cpt-1B.tokens: expected a count such as 400M, 1.5B or 2_000, but '1 billion' was" in message


def test_default_is_the_papers_experiment():
    config = load(PAPER)
    assert config.base.repo == "facebook/MobileLLM-125M"
    assert config.corpora["fineweb_edu"].repo == "HuggingFaceFW/fineweb-edu"
    assert len(config.corpora["fineweb_edu"].revision) == 40
    assert config.packing.sequence_length == 2000
    train = config.train
    assert (train.optimizer, train.weight_decay, train.learning_rate) == ("adamw", 0.005, 1e-4)
    assert (train.schedule, train.warmup, train.micro_batch, train.accumulate) == ("cosine", 0.1, 80, 2)
    assert (train.precision, train.engine, train.zero_stage) == ("bf16", "deepspeed", 3)
    assert set(train.offload) == {"optimizer", "parameters"} and train.gradient_checkpointing
    assert config.runs["base"].tokens == 0
    assert {n: (r.tokens, r.gpus) for n, r in config.runs.items() if r.tokens} == {
        "cpt-400M": (400_000_000, 3),
        "cpt-1B": (1_000_000_000, 6),
    }
    assert len(config.evaluate.table_tasks) == 7 and config.evaluate.items is None


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "experiments").glob("*.yaml")))
def test_every_overlay_is_valid_and_named_after_its_file(name):
    config = load(merged(yaml.safe_load((ROOT / "experiments" / name).read_text())))
    assert config.name == Path(name).stem and config.results == f"results/{config.name}"


def test_demo_keeps_the_papers_2_to_5_ratio():
    demo = load(merged(yaml.safe_load((ROOT / "experiments" / "demo.yaml").read_text())))
    small, large = (demo.runs[run].tokens for run in demo.trained_runs)
    assert 5 * small == 2 * large


def test_overlays_merge_deeply_and_null_removes():
    config = load(merged({"train": {"learning_rate": 3e-4}, "runs": {"cpt-1B": None}}))
    assert config.train.learning_rate == 3e-4 and config.train.weight_decay == 0.005
    assert list(config.runs) == ["base", "cpt-400M"]
    assert "cpt-1B" not in load(merged({"runs": {"cpt-1B": "null"}})).runs  # as --config gives it


def shards(overlay: dict) -> int:
    return load(merged(overlay)).shards_of("fineweb_edu")


def test_papers_experiment_needs_two_shards():
    assert shards({}) == 2
    assert shards({"runs": {"cpt-1B": None}}) == 1
    assert shards({"runs": {"cpt-1B": None, "cpt-400M": None}}) == 1


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({"runs": {"x": {"tokens": "6B", "gpus": 1}}}, 10),
        ({"runs": {"x": {"tokens": 6_000_000_001, "gpus": 1}}}, 11),
        ({"runs": {"x": {"tokens": "6B", "gpus": 1}}, "packing": {"maximum_epochs": 4}}, 3),
        ({"runs": {"x": {"tokens": "6B", "gpus": 1, "mixture": "other"}}}, 3),  # 30 % of 6B are 3 exactly
        ({"runs": {"x": {"tokens": "9B", "gpus": 1, "mixture": "other"}}}, 5),  # 4.5
        ({"runs": {"x": {"tokens": "6B", "gpus": 1}}, "corpora": {"fineweb_edu": {"shards": 7}}}, 7),
        ({"mixtures": {"domain": {"fineweb_edu": None, "mine": 1}}}, 1),  # measured, but not trained on
        ({"corpora": {"fineweb_edu": {"tokens_per_shard": "2.5M"}}}, 400),
    ],
)
def test_shards_follow_from_the_largest_need(overlay, expected):
    mine = {"source": "local", "files": "mine/*.md", "shards": 3}
    config = {"corpora": {"mine": mine}, "mixtures": {"other": {"fineweb_edu": 0.3, "mine": 0.7}}}
    assert load(merged(config)).shards_of("mine") == 3
    assert load(merged(config, overlay)).shards_of("fineweb_edu") == expected


def test_shards_or_what_they_follow_from_must_be_set():
    assert (
        "corpora.fineweb_edu: set shards (how many of the matching files to use), or tokens_per_shard"
        in problem({"corpora": {"fineweb_edu": {"tokens_per_shard": None}}})
    )
    for value in (0, "many"):
        assert "corpora.fineweb_edu.tokens_per_shard: " in problem(
            {"corpora": {"fineweb_edu": {"tokens_per_shard": value}}}
        )


def test_sequence_length_over_the_context_of_a_known_model():
    smoke = yaml.safe_load((ROOT / "experiments" / "smoke.yaml").read_text())
    text = ""
    with pytest.raises(UserError) as caught:
        load(merged(smoke, {"packing": {"sequence_length": 5000}}))
    text = str(caught.value)
    assert "packing.sequence_length: 5000 is over the model's context of 4096 tokens" in text


def test_models_between_base_and_a_run_come_before_the_run():
    between = {f"at-{share}": {"merge": {"base": 1 - share, "cpt-400M": share}} for share in (0.75, 0.25)}
    config = load(merged({"runs": between}))
    assert list(config.budgets.items()) == [
        ("base", 0),
        ("at-0.25", 400_000_000),
        ("at-0.75", 400_000_000),
        ("cpt-400M", 400_000_000),
        ("cpt-1B", 1_000_000_000),
    ]
    assert config.trained_runs == ["cpt-400M", "cpt-1B"]
    assert config.merged_runs == ["at-0.25", "at-0.75"]


def test_a_run_counts_the_tokens_of_the_runs_that_it_starts_from():
    """`then` saw 1B tokens: Table 1 and Figure 2 show this number, and it orders the rows."""
    later = {"tokens": "600M", "gpus": 3, "start_from": "cpt-400M"}
    half = {"merge": {"base": 0.5, "then": 0.5}}
    last = {"tokens": "1M", "gpus": 3, "start_from": "half"}
    fresh = {"tokens": "1M", "gpus": 3, "start_from": "base"}
    config = load(merged({"runs": {"then": later, "half": half, "last": last, "fresh": fresh}}))
    assert list(config.budgets.items()) == [
        ("base", 0),
        ("fresh", 1_000_000),
        ("cpt-400M", 400_000_000),
        ("half", 1_000_000_000),
        ("cpt-1B", 1_000_000_000),
        ("then", 1_000_000_000),
        ("last", 1_001_000_000),
    ]
    assert config.runs["then"].tokens == 600_000_000


def test_sums_of_models_count_the_tokens_of_every_run_once():
    """Branches of one trunk share its tokens. A difference comes after the run to which it is added."""
    models = {name: {"source": "hub", "repo": f"x/{name}", "revision": "1"} for name in ("instruct", "plain")}
    branch = {"tokens": "100M", "gpus": 3, "start_from": "cpt-400M"}
    runs = {
        **{"one": branch, "two": branch},
        "soup": {"merge": {"base": "-1/3", "one": "2/3", "two": "2/3"}},
        "chat": {"merge": {"instruct": 1, "cpt-1B": 1, "plain": -1}},
    }
    config = load(merged({"runs": runs, "reference_models": models}))
    assert config.budgets["soup"] == 600_000_000 and config.trained_by("soup") == ["cpt-400M", "one", "two"]
    assert list(config.runs) == ["base", "cpt-400M", "one", "two", "soup", "cpt-1B", "chat"]
    # The run whose dtypes the sum has goes first.
    assert list(config.summands("chat").items()) == [("cpt-1B", 1), ("instruct", 1), ("plain", -1)]
    assert list(config.summands("soup").values()) == [2 / 3, -1 / 3, 2 / 3]
    assert load(config.model_dump(mode="json")) == config  # as the merged config beside the results has it


def test_a_run_without_a_mixture_takes_domain_whatever_the_order():
    mixtures = {"replay": {"fineweb_edu": 1.0}, "domain": {"fineweb_edu": 1.0}}
    config = merged()
    config["mixtures"] = mixtures
    assert load(config).mixture_of("cpt-1B") == "domain"
    config["mixtures"] = {"replay": {"fineweb_edu": 1.0}}
    assert load(config).mixture_of("cpt-1B") == "replay"


def test_shards_count_what_continued_runs_and_second_mixtures_read():
    more = {"tokens": "1B", "gpus": 3, "start_from": "cpt-1B", "continues": True}
    assert shards({"runs": {"more": {**more, "continues": False}}}) == 2
    assert shards({"runs": {"more": more}}) == 4  # 2B tokens at 600M a file
    late = {"tokens": "2B", "gpus": 3, "switch": {"mixture": "late", "at": 0.8}}
    mixtures = {"late": {"fineweb_edu": 1.0}}
    assert shards({"mixtures": mixtures, "runs": {"late": late}}) == 3  # 1.6B of the first mixture
    config = load(merged({"mixtures": mixtures, "runs": {"late": late, "more": more}}))
    assert config.mixtures_of("late") == ["domain", "late"] and config.continued_runs == {"cpt-1B"}


def test_held_out_loss_is_measured_in_the_papers_experiment():
    settings = load(PAPER).train.held_out
    assert (settings.every, settings.tokens, settings.first_steps) == (20_000_000, 200_000, 50)
    run = {"train": {"held_out": {"every": "1M", "tokens": 0, "first_steps": 5}}}
    assert "runs.cpt-1B.train.held_out.tokens: input should be greater than 0" in problem(
        {"runs": {"cpt-1B": run}}
    )


def replicate(**other: object) -> dict:
    runs = {"cpt-400M-2": {"tokens": "400M", "gpus": 3, "replicate_of": "cpt-400M", **other}}
    return {"runs": runs}


def test_replicates_differ_in_their_seed_alone():
    second = replicate(train={"seed": 1})
    third = {
        "runs": {"cpt-400M-3": {"tokens": "400M", "gpus": 3, "replicate_of": "cpt-400M", "mixture": "b"}}
    }
    packed = {"mixtures": {"b": {"fineweb_edu": 1.0}}, "packing": {"seeds": {"b": 7}}}
    config = load(merged(second, third, packed))
    assert config.packing_settings("b") == load(PAPER).packing.model_copy(update={"seed": 7})
    assert config.packing_settings("domain") == load(PAPER).packing_settings("domain")
    assert config.replicates == {"cpt-400M": ["cpt-400M", "cpt-400M-2", "cpt-400M-3"]}
    assert load(PAPER).replicates == {}


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (replicate(train={"seed": 1, "learning_rate": 1e-3}), "cpt-400M-2 and cpt-400M differ in train"),
        (replicate(gpus=6), "cpt-400M-2 and cpt-400M differ in gpus"),
        (replicate(replicate_of="base"), "differ in tokens"),
        (replicate(replicate_of="cpt-400M-2"), "cpt-400M-2 is itself a replicate"),
        (replicate(replicate_of="cpt"), "runs.cpt-400M-2.replicate_of: there is no 'cpt' in runs"),
        (
            replicate(),
            "cpt-400M-2 and cpt-400M are the same run twice; give one a mixture of the same shares",
        ),
        (
            {"packing": {"seeds": {"domian": 1}}},
            "packing.seeds.domian: there is no 'domian' in mixtures; did",
        ),
    ],
)
def test_replicates_that_are_none(overlay, message):
    assert message in problem(overlay)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"x": {"reference": "refrence"}}, "x.train.selection.reference: there is no 'refrence' in runs or"),
        ({"x": {"reference": "x"}}, "x.train.selection.reference: x is made from this run"),
        ({"x": {"reference": "y"}, "y": {"reference": "x"}}, "x.train.selection.reference: y is made from"),
        ({"x": {"reference": "base", "share": 0}}, "x.train.selection.share: input should be greater than 0"),
    ],
)
def test_selections_that_cannot_be(runs, message):
    selecting_runs = {
        name: {"tokens": "1M", "gpus": 1, "train": {"selection": {"share": 0.6, **selection}}}
        for name, selection in runs.items()
    }
    assert f"runs.{message}" in problem({"runs": selecting_runs})


def test_reference_of_a_selection_is_a_run_the_base_or_a_model_of_its_own():
    model = {"source": "local", "path": "somewhere"}
    runs = {
        name: {
            "tokens": "1M",
            "gpus": 1,
            "train": {"selection": {"reference": name[2:], "share": 0.5}, **more},
        }
        for name, more in (("x-other", {}), ("x-base", {"document_masking": True}), ("x-cpt-1B", {}))
    }
    config = load(merged({"reference_models": {"other": model}, "runs": runs}))
    assert config.references_of("x-other") == [("domain", "other", "sequences")]
    assert config.references_of("x-base") == [("domain", "base", "documents")]
    assert config.references_of("cpt-1B") == []
    taken = {"reference_models": {"cpt-1B": model}}
    assert "reference_models.cpt-1B: a run has this name" in problem(taken)


def test_bounds_on_columns():
    bad = {"where": {"score": {}, "other": {"minimum": 3, "maximum": 2}}}
    text = problem({"corpora": {"fineweb_edu": bad}})
    assert "where.score: set minimum, maximum or both" in text
    assert "where.other: minimum: 3 is over maximum: 2" in text


def test_null_in_a_run_lies_over_the_sections_value():
    config = load(
        merged({"runs": {"cpt-1B": {"train": {"accumulate": None, "global_batch": 8, "engine": "null"}}}})
    )
    settings = config.train_settings("cpt-1B")
    assert (settings.accumulate, settings.global_batch) == (None, 8)
    assert config.train_settings("cpt-400M").accumulate is not None
    assert settings.engine == config.train.engine  # which can't be null
