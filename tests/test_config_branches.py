"""What the config makes of branches from a trunk, means of its last states, and greedy means."""

import pytest
from tests.test_config import merged, problem

from cpt.config import load

STABLE = {"schedule": "warmup_stable_decay", "decay": 0}
DECAY = {"schedule": "linear", "warmup": 0}
TRUNK = {"tokens": "400M", "gpus": 3, "keep_every": "100M", "train": STABLE}
BRANCH = {"tokens": "50M", "gpus": 3, "start_from": "trunk@200M", "continues": True, "train": DECAY}
MEAN = {"merge": {"last_checkpoints": 3, "of": "trunk"}}


def config(**runs: dict):
    return load(merged({"runs": {"trunk": TRUNK, **runs}}))


def test_a_branch_counts_its_trunk_up_to_where_it_leaves_it():
    experiment = config(branch=BRANCH, late={**BRANCH, "start_from": "trunk@300M"}, mean=MEAN)
    assert {run: experiment.budgets[run] for run in ("branch", "late", "trunk", "mean")} == {
        **{"branch": 250_000_000, "late": 350_000_000, "trunk": 400_000_000, "mean": 400_000_000}
    }
    assert experiment.reach_of("branch") == {"domain": 250_000_000}
    assert experiment.trained_by("branch") == ["trunk", "branch"]
    assert "trunk" not in experiment.continued_runs  # it needn't keep the moments of its end
    both = config(branch=BRANCH, both={"merge": {"branch": 0.5, "trunk@300M": 0.5}})
    assert both.budgets["both"] == 350_000_000  # counts the trunk once, up to its last branch


def test_a_branch_after_a_switch_continues_in_both_mixtures():
    switch = {"mixture": "late", "at": 0.75}
    runs = {"trunk": {**TRUNK, "switch": switch}, "branch": {**BRANCH, "start_from": "trunk@200M"}}
    runs["late"] = {**BRANCH, "start_from": "trunk@300M", "mixture": "late"}
    experiment = load(merged({"runs": runs, "mixtures": {"late": {"fineweb_edu": 1.0}}}))
    assert experiment.reach_of("branch") == {"domain": 250_000_000, "late": 0}
    assert experiment.reach_of("late") == {"domain": 300_000_000, "late": 50_000_000}


def test_last_checkpoints_are_a_sum_of_the_end_and_the_states_before_it():
    experiment = config(mean=MEAN)
    assert experiment.summands("mean") == dict.fromkeys(
        ["trunk", "trunk@200000000", "trunk@300000000"], 1 / 3
    )
    assert load(experiment.model_dump(mode="json")) == experiment  # as in the merged config of the results


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (
            {"branch": {**BRANCH, "start_from": "trunk@250M"}},
            "runs.branch.start_from: trunk keeps no state after 250,000,000 tokens; the last that it keeps: "
            "trunk@100000000, trunk@200000000, trunk@300000000; set runs.trunk.keep_every to tokens that",
        ),
        ({"branch": {**BRANCH, "start_from": "trunk@400M"}}, "trunk keeps no state after 400,000,000 tokens"),
        ({"half": {"merge": {"trunk@0": 1}}}, "runs.half.merge: trunk keeps no state after 0 tokens"),
        ({"half": {"merge": {"base@5": 0.5, "trunk": 0.5}}}, "base keeps no state after 5 tokens; set runs."),
        (
            {"half": {"merge": {"stem@5": 1}}},
            "runs.half.merge: there is no 'stem' in runs or",
        ),
        (
            {"branch": {**BRANCH, "train": {**DECAY, "warmup": 0.1}}},
            "runs.branch.train: a branch begins at the rate of trunk, 0.0001; set warmup: 0, no cooldown and",
        ),
        (
            {"branch": {**BRANCH, "train": {**DECAY, "learning_rate": 1e-5}}},
            "begins at the rate of trunk, 0",
        ),
        (
            {"trunk": {**TRUNK, "train": {**STABLE, "decay": 0.6}}, "branch": BRANCH},
            "runs.branch.start_from: the learning rate of trunk isn't constant after 200,000,000 tokens; "
            "give trunk schedule: warmup_stable_decay with decay: 0",
        ),
        (
            {"trunk": {**TRUNK, "train": {}}, "branch": BRANCH},
            "rate of trunk isn't constant after",
        ),
        (
            {"trunk": {**TRUNK, "keep_every": "400M"}},
            "runs.trunk.keep_every: 400,000,000 tokens, but a step has 960,000 and the run 400,000,000; "
            "set a number between them",
        ),
        (
            {"trunk": {**TRUNK, "keep_every": "900K"}},
            "runs.trunk.keep_every: 900,000 tokens, but a step",
        ),
        (
            {"trunk": {**TRUNK, "tokens": "1921K", "keep_every": "960K"}},
            "runs.trunk.keep_every: the state after 1,920,000 tokens is the run's end, step 2; change",
        ),
        ({"x": {"keep_every": "1M"}}, "runs.x.keep_every: has no effect without tokens"),
        (
            {"mean": {"merge": {"last_checkpoints": 5, "of": "trunk"}}},
            "runs.mean.merge: trunk leaves 4 of 5 checkpoints; set runs.trunk.keep_every to 80,000,000",
        ),
        (
            {"mean": {"merge": {"last_checkpoints": 2, "of": "base"}}},
            "base leaves 1 of 2 checkpoints; set",
        ),
        (
            {"mean": {"merge": {"last_checkpoints": 2, "of": "trunc"}}},
            "runs.mean.merge.of: there is no 'trunc'",
        ),
        (
            {"mean": {"merge": {"last_checkpoints": 1, "of": "trunk"}}},
            "runs.mean.merge: expected {last_checkpoints: 2 or more, of: a run}, but {'last_checkpoints': 1",
        ),
        (
            {"mean": {"merge": {"last_checkpoints": 2}}},
            "expected {last_checkpoints: 2 or more, of: a run}",
        ),
        (
            {"trunk": {**TRUNK, "greedy": True}},
            "runs.trunk.greedy: chooses among models to be averaged; set runs.trunk.merge to two or more",
        ),
        (
            {"soup": {"merge": {"trunk": 0.75, "cpt-400M": 0.25}, "greedy": True}},
            "runs.soup.greedy: averages in equal parts; give all models of merge the same share",
        ),
        (
            {"soup": {"merge": {"trunk": 1, "cpt-400M": 1, "base": -1}, "greedy": True}},
            "runs.soup.greedy: chooses among models to be averaged",
        ),
    ],
)
def test_what_cannot_be_stops_at_the_start(runs, message):
    assert message in problem({"runs": {"trunk": TRUNK, **runs}})
