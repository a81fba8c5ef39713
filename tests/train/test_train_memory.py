"""The out-of-memory error says what to set; micro_batch: auto finds the size that fits, and keeps it."""

import json
import logging
import re
import signal

import pytest
import torch
from forked import Session, kill_after
from train_settings import SETTINGS
from transformers import AutoModelForCausalLM

from cpt.config_runs import Train
from cpt.cpu import keep_freed_memory
from cpt.errors import UserError
from cpt.files import read_json
from cpt.train import loop, memory
from cpt.train.plain_engine import PlainEngine
from cpt.train.plan_run import make_plan

CPU = torch.device("cpu")
PLAN = {"run": "big", "global_batch": 480}
PAPER = {"micro_batch": 80, "gradient_checkpointing": False, "engine": "ddp", "moments": "float32"}
NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_out_of_memory_reports_the_request_the_free_memory_and_what_to_set(error):
    with pytest.raises(UserError) as caught, memory.explain_memory_errors(PLAN, PAPER, 0, 3, CPU):
        raise error
    message = str(caught.value)
    assert (
        message.startswith("runs.big: out of memory on process 0 of 3: ") and " GB are free; set " in message
    )
    assert "train.micro_batch: 40 with train.accumulate: 4 " in message
    assert "the global batch stays 480" in message
    assert "; or train.gradient_checkpointing: selective, which costs little time, or true; or " in message
    assert ("2.50 GiB more were needed" in message) == isinstance(error, torch.OutOfMemoryError)
    assert ("123 bytes more were needed" in message) == ("123" in str(error))


def test_other_errors_stay_unchanged():
    with pytest.raises(RuntimeError, match="shapes"), memory.explain_memory_errors(PLAN, PAPER, 0, 3, CPU):
        raise RuntimeError("shapes don't fit")


def test_any_rank_logs_that_it_ran_out_of_memory(caplog):
    with pytest.raises(UserError), memory.explain_memory_errors(PLAN, PAPER, 2, 3, CPU):
        raise MemoryError
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "on process 2 of 3" in caplog.text


@pytest.mark.parametrize(
    ("micro_batch", "accumulate", "expected"),
    [(80, 2, (40, 4)), (5, 2, (2, 5)), (3, 1, (1, 3)), (2, 1, (1, 2)), (12, 1, (6, 2)), (7, 3, (3, 7))],
)
def test_half_the_micro_batch_keeps_the_global_batch(micro_batch, accumulate, expected):
    assert memory.smaller_micro_batch(micro_batch, accumulate) == expected


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "batch",
    [
        {"micro_batch": 80, "accumulate": 2},
        {"micro_batch": 7, "accumulate": 3},
        {"micro_batch": 2, "accumulate": 1},
        {"micro_batch": 12, "accumulate": 1, "global_batch": 480},
        {"micro_batch": 3, "accumulate": 1, "global_batch": 20},  # no even share per process
        {"micro_batch": 64, "accumulate": 1, "global_batch": 16},  # smaller than the micro-batch
    ],
)
def test_the_advice_keeps_the_batches(processes, batch):
    ledger = {"mixture": "m", "sequences": 9_000, "sequence_length": 64, "tokens": 9_000 * 64}
    ledger |= {"sequences_sha256": "x"}

    def planned(**changes):
        train = Train.model_validate(SETTINGS | {"global_batch": None} | batch | changes)
        return make_plan("big", 8_000 * 64, processes, train, [ledger], 64)

    plan = planned()
    advice = memory.advice(plan["learning"] | plan["execution"], plan["global_batch"], processes)
    match = re.search(r"train\.micro_batch: (\d+) with train\.accumulate: (\d+) ", advice)
    micro_batch, accumulate = map(int, match.groups())
    assert micro_batch <= min(batch["micro_batch"], -(-plan["global_batch"] // processes)) // 2
    again = planned(micro_batch=micro_batch, accumulate=accumulate)
    assert again["global_batch"] == plan["global_batch"] and again["learning"] == plan["learning"]
    assert again["stages"] == plan["stages"] and again["steps"] == plan["steps"]
    assert f"the global batch stays {plan['global_batch']}" in advice


def test_advice_if_even_one_sequence_is_too_much():
    settings = {"micro_batch": 1, "gradient_checkpointing": True, "engine": "deepspeed"}
    assert memory.advice(settings, 480, 3) == "set a device with more memory"
    advice = memory.advice(settings | {"gradient_checkpointing": "selective"}, 480, 3)
    assert advice == "set train.gradient_checkpointing: true; or a device with more memory"
    settings |= {"engine": "ddp", "moments": "float32"}
    advice = memory.advice(settings, 480, 3)
    assert advice == memory.advice(settings | {"micro_batch": "auto"}, 480, 3)
    assert "micro_batch" not in advice and "train.offload: [optimizer, parameters]" in advice
    assert "train.moments: 8bit" in advice
    assert "train.moments" not in memory.advice(settings | {"moments": "8bit"}, 480, 3)


def test_training_that_runs_out_of_memory(training, tmp_path, monkeypatch):
    """A fake engine raises in the middle of a run; the loop's own error comes out."""

    class Full(PlainEngine):
        def loss(self, *inputs, last):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has")

    monkeypatch.setattr(loop, "make_engine", Full)
    run = training(micro_batch=4)
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    }
    try:
        with pytest.raises(
            UserError, match=r"3\.00 GiB more were needed.*train\.micro_batch: 2 with train\.acc"
        ):
            loop.train(read_json(run.folder / "plan.json"), run.model, [run.packed], tmp_path / "work", "cpu")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_control_group_and_slurm_limit_what_is_available(tmp_path, monkeypatch):
    free = memory.available_bytes()
    assert free > 10**8
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str((memory._resident("VmRSS") + 50 * 2**20) // 2**20))
    assert 45e6 < memory.available_bytes() < 60e6
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\nactive_file 50\n")
    names = ("memory.max", "memory.current", "inactive_file")
    assert memory._left_in(tmp_path, *names) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in(tmp_path, *names) is None and memory._left_in(tmp_path / "x", *names) is None


def test_cpu_measures_a_sequence_and_takes_what_fits(monkeypatch, caplog):
    keep_freed_memory()  # as training does: each trial can reuse the memory of the last one
    caplog.set_level(logging.INFO)
    kept = []

    def trial(size):
        kept.append(size)
        bytearray(b"x") * (40_000_000 * size)

    monkeypatch.setattr(memory, "available_bytes", lambda: 250_000_000)
    assert memory.find_micro_batch(trial, 12, 0, CPU) == 4  # 80 % of 250 MB hold 5 of 40 MB
    assert memory.find_micro_batch(trial, 3, 0, CPU) == 3  # all sequences of a process
    assert memory.find_micro_batch(trial, 12, 130_000_000, CPU) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.find_micro_batch(trial, 12, 0, CPU) == 2
    assert memory.find_micro_batch(trial, 12, 70_000_000, CPU) is None
    assert set(kept) == {1}
    sizes = re.findall(r"a sequence takes ([\d.]+) MB, of 200\.0 MB per process", caplog.text)
    assert [float(megabytes) for megabytes in sizes] == pytest.approx([40, 40], abs=2)


def test_a_kernel_that_refuses_to_measure_memory(monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(memory.Path, "write_text", refuse)
    with pytest.raises(
        UserError, match=r"train\.micro_batch: auto can't measure memory here \(.*clear_refs'\); set a number"
    ):
        memory.find_micro_batch(lambda size: None, 12, 0, CPU)


def test_gpu_tries_from_large_to_small(monkeypatch):
    """The search on a GPU, with a made-up device of 1,000 bytes where a sequence takes 100."""
    tried = []

    def trial(size):
        tried.append(size)
        if size > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 100 * tried[-1])
    device = type("Properties", (), {"total_memory": 1000})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    sizes = [20, 16, 8, 4, 2, 1]
    assert memory._fitting_on_gpu(trial, sizes, 0, torch.device("cuda")) == 8
    assert tried == [20, 16, 8]
    assert memory._fitting_on_gpu(trial, sizes, 200, torch.device("cuda")) == 4
    assert memory._fitting_on_gpu(trial, sizes, 900, torch.device("cuda")) is None


def test_trials_leave_no_trace(dropout_model):
    model = AutoModelForCausalLM.from_pretrained(dropout_model).train()
    engine = PlainEngine(model, SETTINGS, CPU, 1)
    before = torch.get_rng_state(), [p.detach().clone() for p in model.parameters()]
    micro_batch = memory.find_micro_batch(
        lambda size: engine.trial(torch.ones(size, 64, dtype=torch.int64), None, torch.ones(size, 63)),
        6,
        0,
        CPU,
    )
    assert micro_batch == 6
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(
        p.grad is None and torch.equal(p, kept) for p, kept in zip(model.parameters(), before[1], strict=True)
    )
    assert not engine.optimizer.state


@pytest.mark.parametrize("processes", [1, 2])
def test_auto_micro_batch_is_logged_kept_and_used_again(training, processes):
    run, undisturbed = training(micro_batch="auto"), training("given", micro_batch=4 // processes)
    kill_after(run, lambda: bool(run.checkpoints), processes=processes)
    path = run.folder / "work" / "micro_batch.json"
    kept = json.loads(path.read_text())
    assert kept["micro_batch"] == 4 // processes
    assert f"micro-batch found: {4 // processes} of at most" in (run.folder / "log").read_text()
    with Session(run, processes) as session:
        session.finish()
    # One process starts a new log each time; several processes, as under torchrun, append to it.
    assert (run.folder / "log").read_text().count("micro-batch found") == processes - 1
    assert json.loads((run.folder / "run.json").read_text())["settings"]["micro_batch"] == 4 // processes
    with Session(undisturbed, processes) as session:
        session.finish()
    assert run.weights == undisturbed.weights


def test_auto_without_enough_memory_for_one_sequence(training):
    run = training(micro_batch="auto")
    with Session(run, environment={"SLURM_MEM_PER_NODE": "1"}) as session:
        assert session.exit_codes() == [1]
    terminal = (run.folder / "terminal").read_text()
    assert "not even one sequence fits into memory; set train.gradient_checkpointing: selective" in terminal
    assert not (run.folder / "work" / "micro_batch.json").exists()
