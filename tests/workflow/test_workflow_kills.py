"""The corpus part of the workflow gives the same bytes after kills of all its processes."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from project_copy import SMOKE

KILLS = 2
RESULTS = "results/killed"
COMMAND = (f"{RESULTS}/packed/domain", "--rerun-incomplete", "--nolock", "--quiet", "all", *SMOKE)


def content(path: Path) -> object:
    """A file's bytes; for JSON, the value without its provenance."""
    if path.suffix != ".json":
        return path.read_bytes()
    value = json.loads(path.read_text())
    return {key: value[key] for key in value if key != "provenance"} if isinstance(value, dict) else value


def test_killed_workflow_resumes_to_the_same_bytes(project):
    """The first kill comes a random while after the first outputs, the second after further ones."""
    folder, chance = project.folder / RESULTS, random.Random(0)
    command = project.command(*COMMAND, "--config", f"results={RESULTS}")
    for kill in range(KILLS):
        process = subprocess.Popen(
            command,
            cwd=project.folder,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(folder.glob("corpora/*/*/*.*"))) <= 4 * kill:
            assert process.poll() is None, "snakemake ended before it was killed"
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 3))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    project.snakemake(*COMMAND, "--config", f"results={RESULTS}")
    outputs = [
        path for part in ("corpora", "packed") for path in (folder / part).rglob("*") if path.is_file()
    ]
    assert len(outputs) > 30
    for path in outputs:
        reference = project.folder / "results" / "smoke" / path.relative_to(folder)
        assert content(path) == content(reference), path
