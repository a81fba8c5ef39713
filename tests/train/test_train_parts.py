"""The parts of training: plans, schedules, batches, losses, checkpoints, FLOPs."""

from itertools import pairwise
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_settings import SETTINGS

from cpt.config_runs import Train
from cpt.errors import UserError
from cpt.files import read_json, write_json
from cpt.train import loop
from cpt.train.batches import PackedSequences, micro_batches, rows_of_step
from cpt.train.flops import flops_per_token
from cpt.train.metrics import MetricsFile
from cpt.train.plan_run import make_plan, phases, require_separate_documents
from cpt.train.schedules import learning_rate
from plan_run import plan_run

PAPER = SETTINGS | {
    **{"learning_rate": 1e-4, "micro_batch": 80, "accumulate": 2, "global_batch": None},
}
LEDGER = {
    "mixture": "domain",
    "sequences": 700_000,
    "sequence_length": 2000,
    "tokens": 1_400_000_000,
    "sequences_sha256": "x",
}


def plan_of(tokens: int, processes: int = 1, context_length: int = 2048, run: str = "run", **changes) -> dict:
    train = Train.model_validate(PAPER | changes)
    return make_plan(run, tokens, processes, train, [LEDGER], context_length)


def test_plan_of_the_papers_runs():
    small, large = plan_of(400_000_000, 3), plan_of(1_000_000_000, 6)
    assert (small["sequences"], small["global_batch"], small["steps"]) == (200_000, 480, 417)
    assert (large["sequences"], large["global_batch"], large["steps"]) == (500_000, 960, 521)
    assert large["warmup_steps"] == 53


def test_plan_keeps_a_given_global_batch_whatever_the_process_count():
    plans = [plan_of(10**8, processes, global_batch=480) for processes in (1, 6)]
    assert plans[0] == plans[1] and plans[0]["global_batch"] == 480


def test_budget_larger_than_the_corpus():
    with pytest.raises(UserError, match=r"runs\.big\.tokens.*1,000,000 sequences.*700,000.*lower the budget"):
        plan_of(2_000_000_000, run="big")


def test_sequence_length_over_the_models_context():
    with pytest.raises(
        UserError, match=r"packing\.sequence_length: 2000.*context of 1024 tokens; set it to 1024 or less"
    ):
        plan_of(10**6, context_length=1024)


@pytest.fixture
def files(tmp_path) -> dict:
    """The paths that the stage reads and writes."""
    (tmp_path / "packed").mkdir()
    write_json(tmp_path / "packed" / "ledger.json", LEDGER)
    report = {"restarted_positions_separate_documents": True, "context_length": 2048}
    write_json(tmp_path / "base.json", report)
    paths = {"packed": [tmp_path / "packed"], "base": tmp_path / "base.json"}
    return paths | {"plan": tmp_path / "plan.json", "schedule": tmp_path / "schedule.csv"}


def test_the_plan_and_its_schedule_are_written(files):
    train = Train.model_validate(PAPER | {"warmup": 0.25})
    plan_run("run", 4_000_000, 1, train, **files)
    plan = read_json(files["plan"])
    assert plan == make_plan("run", 4_000_000, 1, train, [LEDGER], 2048)
    assert plan["execution"].keys().isdisjoint(plan["learning"])
    assert list(plan["learning"]) == sorted(plan["learning"])  # the same settings give the same bytes
    lines = files["schedule"].read_text().splitlines()
    assert lines[:2] == ["step,tokens,learning_rate", "1,320000,2.5e-05"]
    assert len(lines) == 1 + plan["steps"] and lines[-1].startswith("13,4000000,")


def test_phases_of_all_shares_of_two_decimals_are_exact():
    """In integers: p hundredths of n steps, rounded up."""
    assert phases(SimpleNamespace(warmup=0.07, cooldown=None, decay=None), 100)["warmup_steps"] == 7
    for hundredths in range(101):
        shares = SimpleNamespace(warmup=hundredths / 100, cooldown=None, decay=None)
        for steps in range(1, 3000, 29 if hundredths % 7 else 1):
            assert phases(shares, steps)["warmup_steps"] == -(-hundredths * steps // 100), (hundredths, steps)


def test_a_switch_after_a_share_of_the_steps_is_exact():
    ledgers = [LEDGER, LEDGER | {"mixture": "late"}]
    train = Train.model_validate(PAPER | {"global_batch": 1})
    plan = make_plan("run", 150 * 2000, 1, train, ledgers, 2048, 0.07)
    # Exactly 10.5, which Python rounds to the even neighbour; as floats 10.500000000000002.
    assert [stage["sequences"] for stage in plan["stages"]] == [10, 140]


def rates(schedule: str, steps: int, **settings) -> list[float]:
    learning = {"schedule": schedule, "learning_rate": 1.0, "minimum_learning_rate": 0.0, **settings}
    shares = SimpleNamespace(**{"warmup": None, "cooldown": None, "decay": None} | settings)
    plan = {"steps": steps, "learning": learning, **phases(shares, steps)}
    return [learning_rate(step, plan) for step in range(steps)]


def test_cosine_by_hand():
    learning_rates = rates("cosine", 12, warmup=2 / 12)
    assert learning_rates[:3] == [0.5, 1.0, 1.0]
    assert learning_rates[7] == pytest.approx(0.5)  # half of the ten steps after warmup
    assert learning_rates[11] == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.9)))
    assert rates("cosine", 1, warmup=0, learning_rate=2.0) == [2.0]
    assert rates("cosine", 12, warmup=2 / 12, minimum_learning_rate=0.2)[7] == pytest.approx(0.6)


def test_linear_by_hand():
    learning_rates = rates("linear", 12, warmup=2 / 12)
    assert learning_rates[:3] == [0.5, 1.0, 1.0]
    assert learning_rates[7] == pytest.approx(0.5)  # half of the ten steps after warmup
    assert learning_rates[11] == pytest.approx(0.1)  # one step short of 0
    assert rates("linear", 10, warmup=0, minimum_learning_rate=0.2)[5] == pytest.approx(0.6)
    assert rates("linear", 3, warmup=1) == pytest.approx([1 / 3, 2 / 3, 1])


def test_infinite_by_hand():
    learning_rates = rates(
        "infinite",
        20,
        warmup=0.1,
        cooldown=0.2,
        decay=0.2,
        constant_learning_rate=0.4,
        minimum_learning_rate=0.1,
    )
    assert learning_rates[:3] == [0.5, 1.0, 1.0]
    assert learning_rates[4] == pytest.approx(0.7)  # half of the four steps of cooldown
    assert learning_rates[6:17] == [0.4] * 11
    assert learning_rates[17:] == pytest.approx([0.4 * 0.25**0.25, 0.4 * 0.25**0.5, 0.4 * 0.25**0.75])
    assert learning_rates[18] == pytest.approx(0.2)


def test_infinite_without_warmup_and_cooldown_keeps_the_constant_rate():
    learning_rates = rates("infinite", 10, warmup=0, cooldown=0, decay=0, constant_learning_rate=0.4)
    assert learning_rates == [0.4] * 10


def test_warmup_stable_decay_by_hand():
    learning_rates = rates("warmup_stable_decay", 10, warmup=0.2, decay=0.4, minimum_learning_rate=0.2)
    assert learning_rates[:7] == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert learning_rates[7:] == pytest.approx(
        [0.2 + 0.8 * (1 - 0.5), 0.2 + 0.8 * (1 - 0.5**0.5), 0.2 + 0.8 * (1 - 0.75**0.5)]
    )


@given(
    st.integers(1, 300),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda shares: sum(shares) <= 1),
    st.sampled_from(get_args(Train.model_fields["schedule"].annotation)),
)
def test_every_schedule_stays_between_its_rates(steps, shares, schedule):
    warmup, cooldown, decay = shares
    learning_rates = rates(
        schedule,
        steps,
        warmup=warmup,
        cooldown=cooldown,
        decay=decay,
        constant_learning_rate=0.5,
        minimum_learning_rate=0.1,
    )
    begins = phases(SimpleNamespace(warmup=warmup, cooldown=None, decay=None), steps)["warmup_steps"]
    assert all(0 < rate <= 1 for rate in learning_rates) and all(
        rate >= 0.1 for rate in learning_rates[begins:]
    )
    assert all(later <= earlier for earlier, later in pairwise(learning_rates[begins:]))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("micro_batch", [1, 2, 5])
@pytest.mark.parametrize("sequences", [10, 24, 25])
def test_every_row_is_seen_once_and_ranks_agree_on_shapes(world_size, micro_batch, sequences):
    seen = []
    plan = {"global_batch": 10, "stages": [{"first_sequence": 0, "sequences": sequences}]}
    for step in range(-(-sequences // 10)):
        _, rows = rows_of_step(step, plan)
        shapes = set()
        for rank in range(world_size):
            parts = list(micro_batches(rows, rank, world_size, micro_batch))
            shapes.add(tuple(len(numbers) for numbers, _ in parts))
            seen += [n for numbers, weights in parts for n in numbers[weights > 0]]
        assert len(shapes) == 1 and max(next(iter(shapes))) <= micro_batch
    assert sorted(seen) == list(range(sequences))


def test_packed_file_of_the_wrong_size(packed_folder, tmp_path):
    for path in packed_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "lengths.npy", np.zeros(3, np.uint32))
    with pytest.raises(UserError, match=r"lengths\.npy or boundaries\.npy.*pack again"):
        PackedSequences(tmp_path, False)
    (tmp_path / "sequences.bin").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"1,000 bytes instead of 19,200.*pack again"):
        PackedSequences(tmp_path, False)


def test_a_mixture_packed_again_since_the_run_was_planned(training, tmp_path, monkeypatch):
    run = training()
    plan = read_json(run.folder / "plan.json")
    plan["stages"][0]["sequences_sha256"] = "0" * 64
    monkeypatch.setattr(loop, "Interruption", lambda: None)  # it would catch this process's signals
    with pytest.raises(UserError, match=f"{run.packed}: packed again since test was planned; plan the run"):
        loop.train(plan, run.model, [run.packed], tmp_path / "work", "cpu")
    assert not (tmp_path / "work" / "checkpoints").exists()


def test_metrics_file_has_each_step_once_after_a_resume(tmp_path):
    path = tmp_path / "metrics.csv"
    row = dict.fromkeys(("tokens", "loss", "learning_rate", "gradient_norm"), 1.0)
    row |= dict.fromkeys(("tokens_per_second", "model_flops_utilization", "peak_memory_mb", "skipped"))
    row["selected_loss"] = None
    file = MetricsFile(path, 0)
    for step in (1, 2, 3, 4):
        file.write(step=step, **row)
    file.close()
    path.write_text(path.read_text() + "5,1.0,0.")  # a kill cut off this row
    file = MetricsFile(path, 2)
    file.write(step=3, **row)
    file.close()
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["step", "1", "2", "3"]


def test_flops_of_mobilellm_125m():
    config = SimpleNamespace(
        tie_word_embeddings=True, vocab_size=32_000, hidden_size=576, num_hidden_layers=30
    )
    # 6 * 124,635,456 + 6 * 30 * 576 * 2000 = 0.748 G + 0.207 G
    assert flops_per_token(config, 124_635_456, 2000) == pytest.approx(0.955e9, rel=1e-3)
    config.tie_word_embeddings = False
    untied = flops_per_token(config, 124_635_456 + 32_000 * 576, 2000)
    assert untied == pytest.approx(0.955e9, rel=1e-3)


def test_document_masking_is_refused_where_it_has_no_effect():
    report = {"architecture": "OPTForCausalLM", "restarted_positions_separate_documents": False}
    masked, unmasked = (
        Train.model_validate(SETTINGS | {"document_masking": masking}) for masking in (True, False)
    )
    require_separate_documents("run", unmasked, report)
    with pytest.raises(UserError, match=r"runs\.run: train\.document_masking has no effect on OPT"):
        require_separate_documents("run", masked, report)
    require_separate_documents("run", masked, {"restarted_positions_separate_documents": True})
