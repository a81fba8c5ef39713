"""A copy of the project in which tests run Snakemake."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns(".git", ".venv", ".snakemake", "results", "tests", ".ci")
SMOKE = ("--configfile", "experiments/smoke.yaml")


class Project:
    """A copy of the repository in which tests run snakemake, make and other commands."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=IGNORED)
        (folder / ".venv").symlink_to(sys.prefix)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str, check: bool = True, timeout: int = 1500) -> str:
        """Run snakemake; returns what it printed. Targets come first: many options take several values."""
        return self.run(self.command(*arguments), check=check, timeout=timeout)

    def make(self, *arguments: str, timeout: int = 1500) -> str:
        """Run make in this environment; returns what it printed."""
        command = ["make", "--no-print-directory", "--assume-old=.venv/installed", "CORES=2", *arguments]
        return self.run(command, timeout=timeout)

    def run(
        self, command: list[str], check: bool = True, timeout: int = 1500, folder: Path | None = None
    ) -> str:
        """Run a command, here or in `folder`; returns what it printed. Without `check` it must fail."""
        result = subprocess.run(
            command,
            cwd=folder or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env=os.environ | {"COLUMNS": "200"},
        )
        if check:
            assert result.returncode == 0, result.stdout[-6000:]
        else:
            assert result.returncode != 0, result.stdout[-6000:]
        return result.stdout

    def planned(self, *arguments: str, config: tuple[str, ...] = SMOKE) -> dict[str, int]:
        """Jobs per rule that a dry run would start."""
        printed = self.snakemake(*arguments, "--dry-run", "--quiet", "rules", *config)
        if "Nothing to be done" in printed:
            return {}
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total +\d+$", printed, re.M | re.S)
        assert table, printed
        return {rule: int(count) for rule, count in (line.split() for line in table[1].splitlines() if line)}

    def edit(self, path: str, old: str, new: str):
        """Change a file for the length of a `with` block."""
        return _Edit(self.folder / path, old, new)

    def kill_when(self, path: Path, *arguments: str) -> None:
        """Start snakemake and SIGKILL it and all its processes as soon as a file appears."""
        process = subprocess.Popen(
            self.command(*arguments), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(6000):
            if path.exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        assert path.exists(), "snakemake ended before the file appeared"
        parent = psutil.Process(process.pid)
        victims = [parent, *parent.children(recursive=True)]
        for victim in victims:
            with suppress(psutil.NoSuchProcess):  # training processes end with their launcher
                victim.kill()
        process.wait()
        psutil.wait_procs(victims, timeout=60)


class _Edit:
    def __init__(self, path: Path, old: str, new: str):
        self.path, self.old, self.new = path, old, new

    def __enter__(self) -> None:
        self.before = self.path.read_text()
        assert self.before.count(self.old) >= 1, f"{self.old!r} isn't in {self.path}"
        self.path.write_text(self.before.replace(self.old, self.new))

    def __exit__(self, *exc: object) -> None:
        self.path.write_text(self.before)
