"""Configs that are refused: the message names the key, its value, and what is allowed."""

import math

import pytest
import yaml
from tests.test_config import PAPER, ROOT, merged, problem

from cpt.config import load
from cpt.errors import UserError


def test_unknown_key_names_path_and_nearest():
    assert "train.learnin_rate: unknown key; did you mean 'learning_rate'?" in problem(
        {"train": {"learnin_rate": 1}}
    )
    assert "corpora.x.filez: unknown key; did you mean 'files'?" in problem(
        {"corpora": {"x": {"source": "local", "files": "a", "filez": "b"}}}
    )
    assert "runs.cpt-1B.train.lerning_rate: unknown key; did you mean 'learning_rate'?" in problem(
        {"runs": {"cpt-1B": {"train": {"lerning_rate": 1}}}}
    )


def test_wrong_type_names_value():
    text = problem({"packing": {"sequence_length": "long"}})
    assert "packing.sequence_length" in text and "'long'" in text


def test_missing_key():
    config = merged()
    del config["train"]["warmup"]
    with pytest.raises(UserError, match=r"train\.warmup: missing; it must be set"):
        load(config)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"domain": "fineweb"}, "domain: there is no 'fineweb' in corpora; did you mean 'fineweb_edu'?"),
        ({"runs": {"x": {"tokens": "4M"}}}, "runs.x: set either gpus or cpus"),
        ({"runs": {"x": {"tokens": "4M", "gpus": 1, "cpus": 1}}}, "runs.x: set either gpus or cpus"),
        ({"runs": {"x": {"gpus": 1}}}, "runs.x.gpus: has no effect without tokens"),
        (
            {"runs": {"x": {"tokens": "4M", "gpus": 3, "nodes": 2}}},
            "runs.x.nodes: 3 training processes can't be spread evenly over 2 nodes",
        ),
        (
            {"runs": {"x": {"tokens": 100, "gpus": 1}}},
            "runs.x.tokens: 100 is less than one sequence (packing.sequence_length: 2000); raise the budget",
        ),
        (
            {"runs": {"x": {"tokens": "4M", "gpus": 1, "start_from": "cpt-500M"}}},
            "runs.x.start_from: there is no 'cpt-500M' in runs; did you mean 'cpt-400M'?",
        ),
        (
            {"runs": {"x": {"tokens": "4M", "gpus": 1, "start_from": "x"}}},
            "runs.x.start_from: goes round in a circle: x -> x",
        ),
        (
            {
                "runs": {
                    "x": {"tokens": "4M", "gpus": 1, "start_from": "half"},
                    "half": {"merge": {"base": 0.5, "x": 0.5}},
                }
            },
            "runs.half.merge: goes round in a circle: half -> x -> half; name another",
        ),
        (
            {"runs": {"half": {"merge": {"base": 0.5, "cpt-2B": 0.5}}}},
            "runs.half.merge: there is no 'cpt-2B' in runs or reference_models; did you mean 'cpt-1B'?",
        ),
        (
            {"runs": {"half": {"merge": {"base": 1}}}},
            "runs.half.merge: none of base was trained here, so its row of Table 1 has no tokens; name a",
        ),
        (
            {"runs": {"half": {"merge": {}}}},
            "runs.half.merge: empty; name models and coefficients, such as {base: 0.5, cpt-",
        ),
        (
            {"runs": {"half": {"merge": {"cpt-1B": 1, "cpt-400M": 0.5}}}},
            "runs.half.merge: the coefficients add up to 1.5 instead of 1; fix them, such as {base: 0.5, ",
        ),
        (
            {"runs": {"half": {"merge": {"cpt-1B": math.nan, "base": 1}}}},
            "runs.half.merge.cpt-1B: expected a number or a fraction such as 1/3, but nan was given",
        ),
        (
            {"runs": {"half": {"merge": {"cpt-1B": "1/0", "base": 1}}}},
            "runs.half.merge.cpt-1B: expected a number or a fraction such as 1/3, but '1/0' was given",
        ),
        (
            {"runs": {"half": {"merge": {"cpt-1B": 1, "base": 0}}}},
            "runs.half.merge.base: 0 has no effect; leave the model out of the sum",
        ),
        (
            {"runs": {"half": {"merge": {"half": 0.5, "cpt-1B": 0.5}}}},
            "runs.half.merge: goes round in a circle: half -> half; name another",
        ),
        (
            {"runs": {"cpt-1B": {"merge": {"base": 0.5, "cpt-400M": 0.5}}}},
            "runs.cpt-1B: set either tokens or merge",
        ),
        (
            {"runs": {"half": {"interpolate": {"run": "cpt-1B", "ratio": 0.25}}}},
            "runs.half: interpolate: merge has replaced it, which sums any models; write merge: {base: 0.75, "
            "cpt-1B: 0.25}",
        ),
        ({"runs": {"base": {"tokens": "4M", "gpus": 1}}}, "runs.base.tokens"),
        ({"mixtures": {"domain": None}}, "mixtures: empty; name at least one, such as {domain: {fineweb_e"),
        (
            {"evaluate": {"tasks": {task: {"in_table": False} for task in PAPER["evaluate"]["tasks"]}}},
            "evaluate: tasks: Table 1 needs at least one task without in_table: false; add one",
        ),
        (
            {"evaluate": {"tasks": {"mmlu9": {"task": "mmlu", "shots": 9}}}},
            "evaluate: tasks.mmlu9.shots: MMLU has 5 worked examples of each subject, but 9 are asked for",
        ),
        (
            {"mixtures": {"domain": {"fineweb_edu": 0.9}}},
            "mixtures.domain: the shares add up to 0.9 instead of 1; fix them",
        ),
        (
            {"deduplicate": {"near": {"ngram": 5, "bands": 0, "rows": 8, "seed": 0}}},
            "deduplicate.near.bands: ",
        ),
        ({"deduplicate": {"near": {"seed": 0}}}, "deduplicate.near.ngram: missing; it must be set"),
        ({"train": {"accumulate": None}}, "set accumulate, or set global_batch"),
        (
            {"mixtures": {"domain": None, "a": {"fineweb_edu": 1}, "b": {"fineweb_edu": 1}}},
            "runs.cpt-400M.mixture: not set, and none of the mixtures is called domain; name one of a, b",
        ),
        ({"train": {"micro_batch": "auto"}}, "micro_batch: auto needs global_batch"),
        ({"train": {"compile": True}}, "compile: true isn't possible with engine: deepspeed"),
        (
            {"train": {"micro_batch": "auto", "global_batch": 480}},
            "micro_batch: auto can't be tried out with engine: deepspeed",
        ),
        ({"train": {"on_bad_step": "ignore"}}, "train.on_bad_step: input should be 'stop' or 'skip'"),
        ({"train": {"decay": 0.2}}, "decay: has no effect with schedule: cosine; remove it (null)"),
        (
            {"train": {"schedule": "infinite", "cooldown": 0.3, "decay": 0.1}},
            "constant_learning_rate: schedule: infinite needs it",
        ),
        (
            {"train": {"schedule": "warmup_stable_decay", "decay": 0.95}},
            "warmup, cooldown and decay are shares of one run, but add up to more than 1; lower them",
        ),
        ({"train": {"minimum_learning_rate": 1e-3}}, "minimum_learning_rate must not be over"),
        (
            {
                "train": {
                    "schedule": "infinite",
                    "cooldown": 0.3,
                    "decay": 0.1,
                    "constant_learning_rate": 5e-5,
                }
            },
            "the infinite schedule decays exponentially",
        ),
        (
            {"train": {"engine": "ddp"}},
            "train: offload: [optimizer, parameters] isn't possible with engine: ddp, which takes []",
        ),
        (
            {"train": {"engine": "fsdp", "offload": ["optimizer"]}},
            "[optimizer] isn't possible with engine: fsdp, which takes [] or [optimizer, parameters]",
        ),
        (
            {"train": {"zero_stage": 2}},
            "isn't possible with engine: deepspeed, zero_stage: 2, which takes [] or [optimizer]",
        ),
        (
            {"train": {"zero_stage": 0, "offload": ["optimizer"]}},
            "offload: [optimizer] isn't possible with engine: deepspeed, zero_stage: 0, which takes []",
        ),
        (
            {"runs": {"x": {"tokens": "4M", "gpus": 1, "train": {"engine": "ddp"}}}},
            "runs.x.train: offload: [optimizer, parameters] isn't possible with engine: ddp",
        ),
        ({"evaluate": {"groups": {"general": ["pica"]}}}, "evaluate.groups.general: there is no 'pica'"),
    ],
)
def test_what_does_not_fit_together(overlay, message):
    assert message in problem(overlay)


def test_all_problems_are_reported_at_once():
    text = problem({"train": {"warmup": 2}, "packing": {"seed": "x"}})
    assert "train.warmup" in text and "packing.seed" in text


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            {"switch": {"mixture": "reply", "at": 0.8}},
            "runs.x.switch.mixture: there is no 'reply' in mixtures",
        ),
        (
            {"switch": {"mixture": "domain", "at": 0.8}},
            "runs.x.switch.mixture: the run trains on domain before",
        ),
        ({"switch": {"mixture": "replay", "at": 1}}, "runs.x.switch.at: input should be less than 1"),
        ({"continues": True}, "runs.x.continues: has no effect without start_from"),
        (
            {"continues": True, "start_from": "base"},
            "runs.x.start_from: base isn't trained, so there is nothing",
        ),
    ],
)
def test_switches_and_continuations_that_cannot_be(run, message):
    mixtures = {"replay": {"fineweb_edu": 1.0}}
    assert message in problem({"mixtures": mixtures, "runs": {"x": {"tokens": "1M", "gpus": 1, **run}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"runs": {"base": None}},
            "runs: the base model itself, with which all others are compared, isn't among",
        ),
        ({"evaluate": {"seed": -1}}, "evaluate.seed: "),
        ({"evaluate": {"groups": {"none": []}}}, "evaluate.groups.none: "),
    ],
)
def test_what_would_fail_after_hours_is_refused_at_once(changes, message):
    assert message in problem(changes)


@pytest.mark.parametrize(
    ("overlay", "line"),
    [
        ({"base": {"verson": "0.1.3"}}, "base.verson: unknown key; did you mean 'version'?"),
        ({"base": {"repo": "a/b"}}, "base.repo: unknown key; known: expected_scores, file, label, license, "),
        (
            {"base": {"source": "packge"}},
            "base.source: expected 'hub', 'local', 'package', 'random', but 'packge' was given",
        ),
        ({"base": {"source": None}}, "base.source: missing; it must be set"),
        ({"base": {"version": 0.9}}, "base.version: input should be a valid string, but 0.9 was given; put"),
        (
            {"evaluate": {"benchmarks": {"packge": 1}}},
            "evaluate.benchmarks.packge: unknown key; did you mean 'package'?",
        ),
        (
            {"train": {"micro_batch": "x"}},
            "train.micro_batch: input should be a valid integer or 'auto', but 'x' was given",
        ),
        (
            {"train": {"compile": "x"}},
            "train.compile: input should be a valid boolean or 'auto', but 'x' was given",
        ),
        (
            {"corpora": {"own": {"files": [1]}}},
            "corpora.own.files.0: input should be a valid string, but 1 was given; put it in quotes",
        ),
        (
            {"corpora": {"own": {"files": {"a": 1}}}},
            "corpora.own.files: input should be a valid string or a valid list, but {'a': 1} was given",
        ),
        ({"train": []}, "train: expected keys with values, such as {key: value}, but [] was given"),
    ],
)
def test_keys_are_those_of_the_config_and_reported_once(overlay, line):
    """Pydantic's paths also name a union's variants; one of them, `package`, is also a key."""
    own = yaml.safe_load((ROOT / "experiments" / "own.yaml").read_text())
    with pytest.raises(UserError) as caught:
        load(merged(own, overlay))
    head, *lines = str(caught.value).split("\n  ")
    assert head == "config:" and len(lines) == 1 and lines[0].startswith(line)
