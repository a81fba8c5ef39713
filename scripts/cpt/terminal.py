"""Snakemake's messages on the terminal, shortened to a line for every job that ends or fails.

Snakemake's own messages take five to eight lines a job. Here a job gets one line when it ends, and one more
if it takes long. Its script draws a bar meanwhile (cpt.progress). Snakemake's log file stays complete.
"""

import logging
import re
import shlex
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

# After this time the terminal mentions a running job.
LONG_SECONDS = 10.0
DROPPED_EVENTS = {LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.JOB_STARTED}
# Messages without an event of their own that don't help a user.
DROPPED_STARTS = (
    "Assuming unrestricted shared filesystem usage",
    "Building DAG of jobs",
    "Updating checkpoint dependencies",
    "DAG of jobs will be updated after completion",
    "Using shell",
    "Select jobs to execute",
    "Execute ",
    "Shutting down, this might take some time",
    "Singularity containers: ignored",
    "--keep-incomplete mode is set",
)
RESULTS = ("table1.md", "figures", "paper.pdf", "report.html")  # files that `closing` names if they exist
MOST_MODELS = 8  # that `closing` names one by one
WIDTH = 80  # columns
CLEAR_LINE = "\r\x1b[K"  # removes a bar from the line
# The places in our rules that raised a mistake, before Snakemake's message and after it.
PLACES = re.compile(
    r'(?<=^WorkflowError) in file "[^"\n]+", line \d+|(?:\n  File "[^"\n]+", line \d+, in .+)+\Z'
)
# Snakemake's message about a mistake that an input function raised.
INPUT_MISTAKE = re.compile(
    r"InputFunctionException [^\n]+\nError:\n  WorkflowError:\n(.+?)\nWildcards:\n.*", re.DOTALL
)


class PlainMistakes(logging.Formatter):
    """Snakemake's own formatter, `usual`, that shows a WorkflowError without the lines that raised it.

    Nearly all of them are mistakes in a config or a command. `--verbose` shows the whole traceback.
    """

    def __init__(self, usual: Any):
        super().__init__()
        self.usual = usual

    def format(self, record: logging.LogRecord) -> str:
        text = self.usual.format(record)
        if match := INPUT_MISTAKE.fullmatch(text):
            return f"WorkflowError:\n{textwrap.dedent(match[1])}"
        return PLACES.sub("", text) if getattr(record, "exception", "") == "WorkflowError" else text


def show_mistakes_plainly(logger: logging.Logger) -> None:
    """Use PlainMistakes on the terminal."""
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler" and not isinstance(handler.formatter, PlainMistakes):
            handler.setFormatter(PlainMistakes(handler.formatter))


def be_calm(logger: logging.Logger) -> "CalmTerminal | None":
    """Shorten Snakemake's messages on the terminal. Returns None if another logger plugin shows them."""
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            usual = getattr(handler.formatter, "usual", handler.formatter)
            calm = CalmTerminal(usual, logger, getattr(handler.stream, "isatty", bool)())
            handler.setFormatter(calm)
            handler.addFilter(calm.shows)
            return calm
    return None


class CalmTerminal(PlainMistakes):
    """Formatter and filter of Snakemake's handler.

    Args:
        usual: Snakemake's own formatter, for all messages that aren't shortened.
        logger: Snakemake's logger, which mentions jobs that take long.
        on_terminal: whether the output is a terminal, not a file or pipe.
    """

    def __init__(self, usual: Any, logger: logging.Logger, on_terminal: bool):
        super().__init__(usual)
        self.logger = logger
        self.start_of_line = CLEAR_LINE if on_terminal else ""
        self.jobs: dict[int, tuple[str, float, threading.Timer]] = {}
        self.ended: list[str] = []
        self.rules: set[str] = set()

    def shows(self, record: logging.LogRecord) -> bool:
        """Record the event of a log record. Returns whether to show it."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._started(record)
            return False
        if event == LogEvent.JOB_FINISHED:
            self._ended(record.job_id)
            return False
        if event == LogEvent.PROGRESS:
            return bool(self.ended)
        if event == LogEvent.ERROR and "CalledProcessError" in str(record.msg):
            return False  # the job's own error says more
        if event is None and str(record.msg).startswith(DROPPED_STARTS):
            return False
        return event not in DROPPED_EVENTS and not (event is None and not str(record.msg or "").strip())

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None)
        if event == LogEvent.PROGRESS:
            ended, self.ended = self.ended, []
            width = len(str(record.total))
            text = "\n".join(f"{record.done:{width}}/{record.total}  {line}" for line in ended)
        elif event == LogEvent.JOB_ERROR:
            text = self._failed(record)
        else:
            text = super().format(record).strip("\n")
        return self.start_of_line + text

    def _started(self, record: logging.LogRecord) -> None:
        name = record.rule_msg or record.rule_name
        self.rules.add(record.rule_name)
        mention = threading.Timer(LONG_SECONDS, self.logger.info, [f"{name} ..."])
        mention.daemon = True
        mention.start()
        self.jobs[record.jobid] = (name, time.monotonic(), mention)

    def _ended(self, job: int) -> None:
        if job in self.jobs:  # with `--quiet rules` Snakemake doesn't report its start
            name, began, mention = self.jobs.pop(job)
            mention.cancel()
            self.ended.append(f"{name} ({duration(time.monotonic() - began)})")

    def _failed(self, record: logging.LogRecord) -> str:
        name = record.rule_msg or record.rule_name
        if record.jobid in self.jobs:
            name, _, mention = self.jobs.pop(record.jobid)
            mention.cancel()
        if self.usual.show_failed_logs:  # as on a cluster, where nothing else shows a job's messages
            return self.usual.format(record)
        logs = f" Its log: {', '.join(record.log)}" if record.log else ""
        return f"FAILED: {name}.{logs}"


def closing(results: Path, overlays: Sequence[str], config: Sequence[str]) -> str:
    """Returns the closing text of an experiment: its summary, its results' paths, the report's command.

    Args:
        results: the config's `results` folder.
        overlays: files given as --configfile.
        config: values given as --config.
    """
    summary = results / "summary.txt"  # missing after --touch
    lines = ["", summary.read_text(encoding="utf-8").strip(), ""] if summary.exists() else []
    released = sorted(results.glob("released/*"))
    files = [*(results / name for name in RESULTS), *released[:MOST_MODELS]]
    lines += [str(path) for path in files if path.exists()]
    if len(released) > MOST_MODELS:
        lines.append(f"{results / 'released'}: {len(released)} models")
    if not (results / "report.html").exists():
        words = [
            *(["--configfile", *overlays] if overlays else []),
            *(["--config", *config] if config else []),
        ]
        program = ".venv/bin/snakemake" if Path(".venv/bin/snakemake").exists() else "snakemake"
        command = shlex.join([program, "report", "--cores", "1", *words])
        lines += textwrap.wrap(
            f"One page of all: {command}", WIDTH, break_long_words=False, break_on_hyphens=False
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Returns a duration as text: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"
