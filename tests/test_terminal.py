"""What the terminal shows of a run: rules/terminal.smk and cpt.terminal, over a small Snakefile."""

import fcntl
import logging
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from cpt import terminal
from cpt.terminal import CalmTerminal, closing, duration

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "scripts")!r})
R = "results"

include: {str(ROOT / "rules" / "terminal.smk")!r}

rule summary:
    input:
        expand("part-{{n}}", n=range(3))
    output:
        "results/summary.txt", "results/table1.md", directory("results/released/cpt-1M")
    message:
        "Table 1"
    shell:
        "echo 'what moved' > {{output[0]}}; touch {{output[1]}}; mkdir -p {{output[2]}}"

rule part:
    output:
        "part-{{n}}"
    log:
        "part-{{n}}.log"
    message:
        "part: {{wildcards.n}}"
    shell:
        "echo 'error: no part' > {{log}}; test ! -e bad; touch {{output}}"
"""


@pytest.fixture
def snakemake(tmp_path):
    """Run the Snakefile; returns what it printed to both streams, without colours and empty lines."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)

    def run(*options: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return [line for line in done.stdout.splitlines() if line.strip()]

    return run


def test_each_job_is_a_line_and_the_table_comes_last(snakemake):
    lines = snakemake()
    jobs = [line for line in lines if "/4  " in line]
    assert [line.split("/")[0].strip() for line in jobs] == ["1", "2", "3", "4"]
    assert sorted(line.split("  ")[1].split(" (")[0] for line in jobs) == [
        "Table 1",
        "part: 0",
        "part: 1",
        "part: 2",
    ]
    assert not any(start in line for line in lines for start in ("jobid", "Select jobs", "SNAKEMAKE", "\x1b"))
    begin = lines.index("what moved")
    assert lines[begin + 1 : begin + 4] == [
        "results/table1.md",
        "results/released/cpt-1M",
        "One page of all: snakemake report --cores 1",
    ]
    (log,) = [line for line in lines if line.startswith("Complete log")]
    assert "Finished jobid" in Path(log.split(": ", 1)[1]).read_text()
    (again,) = snakemake()
    assert again.startswith("Nothing to be done")


def test_a_failed_job_is_named_with_its_log_and_no_trace(snakemake, tmp_path):
    (tmp_path / "bad").touch()
    lines = snakemake("--keep-going")
    failed = [line for line in lines if line.startswith("FAILED")]
    assert "FAILED: part: 1. Its log: part-1.log" in failed[0] + failed[1] + failed[2]
    assert not any("Traceback" in line or "CalledProcessError" in line for line in lines)
    assert not any("what moved" in line for line in lines)
    assert any("error: no part" in line for line in snakemake("--show-failed-logs"))


@pytest.mark.parametrize("about", ["rules", "progress", "all"])
def test_who_asks_for_less_is_shown_less(snakemake, tmp_path, about):
    lines = snakemake("--quiet", about)
    assert (tmp_path / "results" / "table1.md").exists()
    assert not any("/4  " in line or "Traceback" in line for line in lines)


def test_who_asks_for_more_is_shown_it(snakemake):
    assert any("Finished jobid" in line for line in snakemake("--verbose"))


@pytest.mark.parametrize("where", ["check()", "rule all:\n    input:\n        check"])
@pytest.mark.parametrize(("kind", "place"), [("WorkflowError", False), ("KeyError", True)])
def test_a_mistake_is_shown_without_our_lines_but_a_fault_of_ours_with_them(
    snakemake, tmp_path, kind, place, where
):
    (tmp_path / "Snakefile").write_text(f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from cpt.terminal import show_mistakes_plainly

show_mistakes_plainly(logger)
R = "results"
include: {str(ROOT / "rules" / "terminal.smk")!r}
include: "rules.smk"
{where}
""")
    (tmp_path / "rules.smk").write_text(f"""
def check(wildcards=None):
    raise {kind}("config:\\n  runs: two of one name | rename one")
""")
    lines = snakemake()
    assert any("rules.smk" in line or "Traceback" in line for line in lines) is place
    if not place:
        assert lines[-3:] == ["WorkflowError:", "config:", "  runs: two of one name | rename one"]


def on_terminal(folder: Path, *command: str) -> str:
    """What a command that must succeed prints on a terminal of 24 lines of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    running = subprocess.Popen([sys.executable, *command], cwd=folder, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # how Linux reports that nobody writes any more
        pass
    assert running.wait() == 0
    return shown.decode()


def test_bars_are_wiped_on_a_terminal(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shown = on_terminal(tmp_path, "-m", "snakemake", "--cores", "1", "--nocolor")
    assert "\r\x1b[K4/4  Table 1 (" in shown


def test_figures_are_seen_beside_the_count_in_80_columns(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(f"""
import sys, time
sys.path.insert(0, {str(ROOT / "scripts")!r})
from cpt.command import run
from cpt.progress import Progress

def train():
    with Progress("train cpt-400M", total=2500, unit="step") as progress:
        for step in range(20):
            progress.note({{"loss": "2.346", "tokens/s": "301,234", "MFU": "41.2%"}})
            progress.advance(100)
            time.sleep(0.05)

run(train)
""")
    monkeypatch.setenv("TQDM_DISABLE", "1")  # as rules/terminal.smk sets it, for the libraries
    shown = on_terminal(tmp_path, "script.py", "--log", "log")
    drawn = [line.rstrip() for line in shown.split("\r")]
    assert max(map(len, drawn)) <= 80
    assert any(line.endswith("left, loss 2.346, tokens/s 301,234, MFU 41.2%") for line in drawn)


def test_a_long_job_is_mentioned_once(monkeypatch):
    monkeypatch.setattr(terminal, "LONG_SECONDS", 0.5)
    messages = []
    logger = logging.Logger("test")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    calm = CalmTerminal(DefaultFormatter(), logger, on_terminal=False)
    for job in (1, 2):
        calm.shows(record(LogEvent.JOB_INFO, jobid=job, rule_msg=f"train: {job}", rule_name="train"))
    calm.shows(record(LogEvent.JOB_FINISHED, job_id=2))
    time.sleep(1.5)
    assert messages == ["train: 1 ..."]
    calm.shows(record(LogEvent.JOB_FINISHED, job_id=1))
    lines = calm.format(record(LogEvent.PROGRESS, done=2, total=12)).splitlines()
    assert [line.split(" (")[0] for line in lines] == [" 2/12  train: 2", " 2/12  train: 1"]


def test_the_end_names_models_and_the_report_in_80_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "summary.txt").write_text("what moved\n")
    (tmp_path / "figures").mkdir()
    for number in range(9):
        (tmp_path / "released" / f"run-{number}").mkdir(parents=True)
    overlays = ["experiments/demo.yaml", "my experiment.yaml"]
    lines = closing(tmp_path, overlays, ["evaluate={items: 50}"]).splitlines()
    assert lines[:4] == ["", "what moved", "", str(tmp_path / "figures")]
    assert lines[4:12] == [str(tmp_path / "released" / f"run-{number}") for number in range(8)]
    assert lines[12] == f"{tmp_path / 'released'}: 9 models"
    assert max(map(len, lines[13:])) <= 80
    command = " ".join(lines[13:]).removeprefix("One page of all: ")
    assert shlex.split(command) == [
        "snakemake",
        "report",
        "--cores",
        "1",
        "--configfile",
        *overlays,
        "--config",
        "evaluate={items: 50}",
    ]
    program = tmp_path / ".venv" / "bin" / "snakemake"
    program.parent.mkdir(parents=True)
    program.touch()
    assert "One page of all: .venv/bin/snakemake report" in closing(tmp_path, [], [])
    (tmp_path / "report.html").touch()
    (tmp_path / "summary.txt").unlink()
    lines = closing(tmp_path, overlays, []).splitlines()
    assert lines[:2] == [str(tmp_path / "figures"), str(tmp_path / "report.html")]
    assert not any("One page" in line for line in lines)


def test_durations():
    assert [duration(s) for s in (0.44, 12.3, 185, 7800)] == ["0.4 s", "12 s", "3 min 5 s", "2 h 10 min"]


def record(event: LogEvent, **values) -> logging.LogRecord:
    """A record as Snakemake makes them."""
    log_record = logging.LogRecord("snakemake", logging.INFO, "", 0, None, None, None)
    log_record.__dict__.update(event=event, **values)
    return log_record


def test_no_cores_are_refused(snakemake):
    assert "--cores 0: no job can start; give at least 1, or all" in snakemake("--cores", "0")


def test_a_stage_run_by_hand_on_a_missing_file_has_no_traceback(tmp_path):
    options = ["--corpus", "own", "--shards", "nowhere.parquet", "--documents", tmp_path / "held_out.parquet"]
    command = [sys.executable, ROOT / "scripts" / "held_out.py", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: " in done.stderr and "nowhere.parquet" in done.stderr
