"""benchmarks/gpu_first_run.sh: its parts on this CPU, each figure beside the expected one, and its limits."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked import CONTEXT, _script

from cpt.train.plan_run import EXECUTION_KEYS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_first_run.sh"


class Forked:
    """Replaces subprocess.Popen for a Python script, and saves its imports (forked.py)."""

    def __init__(self, command: list[str], env: dict[str, str], stdout, **_):
        self.process = CONTEXT.Process(target=_script, args=(command[1:], env, stdout.name, {}))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join(300)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def training(monkeypatch):
    """benchmarks/gpu_training.py as a module that starts trainings without their imports."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    paths = [str(ROOT / "scripts"), str(Path(__file__).parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    module = importlib.import_module("gpu_training")
    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=Forked))
    return module


@pytest.fixture
def script(tmp_path):
    """Run the script; `python` is the text of a shell script in place of Python. Returns what it printed."""

    def run(*steps: str, python: str | None = None, **variables: str) -> str:
        if python is not None:
            (tmp_path / "python").write_text(f"#!/bin/sh\n{python}\n")
            (tmp_path / "python").chmod(0o755)
        named = {
            "PYTHON": str(tmp_path / "python") if python else sys.executable,
            "OUT": str(tmp_path / "out"),
        }
        environment = os.environ | named | variables
        done = subprocess.run([SCRIPT, *steps], env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    return run


def test_trainings_print_each_figure_beside_the_expected_one(tmp_path, training):
    table = tmp_path / "table.md"
    for task in ("compiled", "interrupted", "fsdp"):
        training.gpu_training(task, tmp_path, table, "cpu", "tiny")
    text = table.read_text()
    assert text.startswith("| part | what | measured | expected |\n| --- |")
    for task, speed in (("compiled", "200,000 to 340,000"), ("fsdp", "100,000 to 170,000")):
        assert re.search(rf"\| {task} \| tokens/s \| [\d,]+ \| {speed} \|", text)
        assert re.search(rf"\| {task} \| peak memory, GB \| [\d.]+ \| at most about 32.20 \|", text)
    # A model with random weights can't predict random tokens out of 64.
    assert re.search(r"\| fsdp \| loss, first and last \| 4\.1\d\d, 4\.1\d\d \|", text)
    assert re.search(r"\| compiled \| 14 held-out shapes, twice, s \| [\d.]+ \| under 10 \|", text)
    assert "| compiled | compile: auto became | False | true |" in text
    assert "| interrupted | exit code after SIGTERM | 75 | 75 |" in text
    assert "| interrupted | every step is there once | yes | yes |" in text
    assert 6 <= int(re.search(r"resumed after step \| (\d+) \|", text)[1]) < training.SIZES["tiny"][3]


def test_held_out_text_has_the_documented_number_of_shapes(tmp_path, training):
    from cpt.token_windows import load_held_out

    training.prepare(tmp_path, "tiny")
    _, length, micro_batch, _ = training.SIZES["tiny"]
    windows = sorted(map(len, load_held_out(tmp_path / "held_out.npz").windows(length)), reverse=True)
    assert len(set(windows[::micro_batch])) == training.HELD_OUT_SHAPES


def test_plan_has_the_settings_that_training_knows(tmp_path, training):
    training.write_json(tmp_path / "packed" / "ledger.json", {"sequences_sha256": "x"})
    plan = training.plan_of("compiled", tmp_path, "full", "cuda")
    assert set(plan["execution"]) == set(EXECUTION_KEYS) - {"accumulate"}
    assert not set(plan["learning"]) & set(EXECUTION_KEYS)
    assert (plan["learning"]["precision"], plan["global_batch"], plan["steps"]) == ("bf16", 64, 12)


def test_profile_says_where_time_goes(tmp_path, training):
    training.prepare(tmp_path, "tiny")
    rows = training.profiled(tmp_path, "tiny", "cpu")
    shares = [float(measured) for _, measured, _ in rows]
    assert sum(shares) == pytest.approx(100, abs=2) and shares[0] > 0 and all(row[2] for row in rows)
    assert "aten::mm" in (tmp_path / "profile.txt").read_text()


def test_missing_deepspeed_is_a_reason_to_skip(tmp_path, training, monkeypatch):
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    training.gpu_training("deepspeed", tmp_path, tmp_path / "table.md", "cuda")
    assert "| deepspeed | skipped | DeepSpeed isn't installed |" in (tmp_path / "table.md").read_text()


def test_systems_are_read_from_a_log_that_was_cut(tmp_path, training):
    result = '{"step_seconds": 0.16, "peak_mb": 30100.0}'
    (tmp_path / "log").write_text(
        f"repeat 1, ours-ddp: {result}\nrepeat 1, hf-trainer: {result}\n"
        "ours-liger is skipped: the package liger_kernel isn't installed\nrepeat 1, ours-compi"
    )
    assert training.read_speeds(tmp_path / "log", 16, "full") == [
        ("ours-ddp, tokens/s", "200,000", "100,000 to 180,000"),
        ("ours-ddp, peak GB", "30.10", "32.20 counted, and somewhat more"),
        ("hf-trainer, tokens/s", "200,000", "130,000 to 165,000"),
        ("hf-trainer, peak GB", "30.10", "48.70 counted, and somewhat more"),
        ("ours-liger is skipped: the package liger_kernel isn't installed", "", ""),
    ]


def test_probe_prints_each_figure_beside_the_expected_one(script, tmp_path):
    printed = script("probe", DEVICE="cpu", SIZE="tiny", LIMIT="300")
    table = (tmp_path / "out" / "gpu_first_run.md").read_text()
    assert table in printed and re.search(r"^probe: \d+ s$", printed, re.MULTILINE)
    for what, expected in (
        ("copy of", "2.6 to 4.4 TB/s"),
        ("product 64 x 64 x 64", "600 to 800 TFLOP/s"),
        ("flash attention, 1 x 64, forward", "150 to 300 TFLOP/s"),
        ("flash attention, 1 x 64, backward", "150 to 250 TFLOP/s"),
    ):
        assert re.search(rf"\| probe \| {what}[^|]*\| [\d.e-]+ T\S+ \| {expected} \|", table), what
    assert "| probe | cudnn attention, 1 x 64 | failed: " in table  # a CPU has none


@pytest.mark.parametrize(("part", "steps", "most"), [("first", 5, 480), ("second", 5, 270)])
def test_limits_of_a_part_add_up_to_its_time(script, tmp_path, part, steps, most):
    (tmp_path / "timeout").write_text('#!/bin/sh\necho "limit $2"\n')
    (tmp_path / "timeout").chmod(0o755)
    printed = script(part, python="exit 0", PATH=f"{tmp_path}:{os.environ['PATH']}")
    logs = [log.read_text() for log in (tmp_path / "out").glob("*.log")]
    limits = [int(seconds) for seconds in re.findall(r"limit (\d+)", "".join([printed, *logs]))]
    assert len(limits) == steps and sum(limits) <= most


def test_a_step_that_fails_or_lasts_too_long_stops_no_later_step(script, tmp_path):
    python = 'case "$*" in *fsdp*) exit 3 ;; *interrupted*) sleep 60 ;; *) echo "did $3" ;; esac'
    printed = script("fsdp", "interrupted", "profile", python=python, LIMIT="2")
    assert "did profile" in printed
    table = (tmp_path / "out" / "gpu_first_run.md").read_text().splitlines()
    assert re.fullmatch(r"\| fsdp \| failed \| exit code 3 after \d s \| \|", table[0])
    assert table[1:] == ["| interrupted | stopped | over its 2 s | |"]


def test_systems_need_pydantic(script, tmp_path):
    assert "| systems-16 | skipped | pydantic isn't installed | |" in script("systems-16", python="exit 1")
