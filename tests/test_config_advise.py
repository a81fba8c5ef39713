"""The section `advise` becomes runs and mixtures of its own, which only proxies see."""

from fractions import Fraction

import pytest
from test_config import merged, problem

from cpt.config import load

GRID = {"tokens": ["1B"], "learning_rates": [3e-5, 1e-4], "replay": [0, 0.05], "like": "cpt-400M"}
FORGETTING = {
    "corpora": {"fineweb": {"source": "local", "files": "web/*.txt", "shards": 1}},
    "general": "fineweb",
}


def advising(**changes) -> dict:
    return {**FORGETTING, "advise": GRID | changes}


def test_without_the_section_there_are_no_proxies():
    config = load(merged())
    assert config.proxies == {} and config.proxy_points == [] and config.proxy_shares == {}
    assert config.all_mixtures == config.mixtures and config.foreseen_runs == {}


def test_the_grid_becomes_runs_on_as_large_a_share_of_the_text():
    config = load(merged(advising()))
    # The smaller at both rates, the larger at the upper one of the two in the middle.
    assert len(config.proxies) == 2 * (2 + 1)
    assert {point["rate"] for point in config.proxy_points if point["share"] == 0.05} == {1e-4}
    proxy = config.proxies["advise-1B-share0.02-lr0.0001-replay0.05"]
    assert (proxy.tokens, proxy.gpus, proxy.mixture) == (20_000_000, 3, "advise-0.02-replay0.05")
    assert proxy.train["learning_rate"] == 1e-4 and proxy.train["held_out"]["every"] == 1_000_000
    assert config.all_mixtures["advise-0.02-replay0.05"] == {"fineweb_edu": 0.95, "fineweb": 0.05}
    assert config.all_mixtures["advise-0.05-replay0"] == {"fineweb_edu": 1.0}
    assert config.proxy_shares["advise-0.05-replay0"] == 0.05


def test_nothing_else_sees_them():
    plain, advised = load(merged(FORGETTING)), load(merged(advising()))
    assert advised.runs == plain.runs and advised.mixtures == plain.mixtures
    assert advised.trained_runs == plain.trained_runs and advised.budgets == plain.budgets
    assert advised.packing_settings("domain") == plain.packing_settings("domain")


def test_other_rates_of_a_schedule_keep_their_ratio_to_the_peak():
    infinite = {"schedule": "infinite", "constant_learning_rate": 5e-5, "cooldown": 0.2, "decay": 0.1}
    train = {**infinite, "minimum_learning_rate": 1e-5, "learning_rate": 1e-4}
    config = load(merged(advising(learning_rates=[2e-5, 3e-4]), {"train": train}))
    for proxy in config.proxies:
        settings = config.train_settings(proxy)
        assert settings.constant_learning_rate == pytest.approx(settings.learning_rate / 2)
        assert settings.minimum_learning_rate == pytest.approx(settings.learning_rate / 10)


def test_weight_decays_are_tried_on_the_largest_budget():
    config = load(merged(advising(tokens=["100M", "400M"], weight_decays=[0.005, 0.1], shares=[0.1, 0.2])))
    points = {(point["tokens"], point["decay"]) for point in config.proxy_points}
    assert points == {(100_000_000, 0.005), (400_000_000, 0.005), (400_000_000, 0.1)}
    decay = config.train_settings("advise-400M-share0.1-lr0.0001-replay0-wd0.1").weight_decay
    assert decay == 0.1


def test_epochs_are_those_of_the_full_run():
    config = load(merged(advising(maximum_epochs=4)))
    assert config.packing_settings("advise-0.02-replay0").maximum_epochs == 4
    assert config.packing_settings("domain").maximum_epochs == 1


def test_shards_are_as_many_as_the_full_run_needs():
    assert load(merged(FORGETTING)).shards_of("fineweb_edu") == 2
    config = load(merged(advising(tokens=["6B"])))
    assert config.advised_need("fineweb_edu") == Fraction(6_000_000_000)
    assert config.shards_of("fineweb_edu") == 10
    assert load(merged(advising(tokens=["6B"], maximum_epochs=4))).shards_of("fineweb_edu") == 3


def test_a_run_of_the_grid_is_foreseen_and_no_other():
    run = {"tokens": "1B", "gpus": 3, "mixture": "advised", "train": {"learning_rate": 3e-5}}
    overlay = {"mixtures": {"advised": {"fineweb_edu": 0.95, "fineweb": 0.05}}, "runs": {"advised": run}}
    config = load(merged(advising(), overlay))
    advised = {"tokens": 10**9, "replay": 0.05, "decay": 0.005, "rate": 3e-5}
    plain = {"tokens": 10**9, "replay": 0.0, "decay": 0.005, "rate": 1e-4}
    assert config.foreseen_runs == {"cpt-1B": plain, "advised": advised}


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"advise": GRID}, "advise: needs a corpus on which forgetting is measured; set general"),
        (advising(like="cpt-2B"), "advise.like: there is no 'cpt-2B' in runs with tokens"),
        (
            advising() | {"train": {"held_out": None}},
            "the laws are fitted to held-out curves; set train.held_out",
        ),
        (
            advising(tokens=["40M"]),
            "0.02 of 40,000,000 tokens are 0 steps of 480 sequences, and a proxy needs 10",
        ),
        (
            advising(learning_rates=[1e-4], replay=[0]),
            "advise: 2 proxies are too few for intervals, which need 4; add learning_rates or replay shares",
        ),
        (advising(shares=[0.05]), "advise.shares: list should have at least 2 items"),
        (advising(replay=[0.05, 0.05]), "replay: a value is in the list twice; remove one"),
        (advising(learning_rates=[0.0]), "advise.learning_rates.0: input should be greater than 0"),
        (
            advising() | {"mixtures": {"advise-0.02-replay0": {"fineweb": 1}}},
            "a run or mixture is called advise-0.02-replay0, as a proxy is; rename it",
        ),
        (
            advising(like=None) | {"runs": {"cpt-400M": None, "cpt-1B": None}},
            "advise: no run has tokens; add one, whose processes and settings the proxies take",
        ),
    ],
)
def test_what_can_not_be_advised_on(overlay, message):
    assert message in problem(overlay)
