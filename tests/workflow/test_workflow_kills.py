"""The corpus part of the workflow, killed with all its processes and started again: the same bytes."""

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
    """The bytes; of a JSON file all but its provenance."""
    if path.suffix != ".json":
        return path.read_bytes()
    value = json.loads(path.read_text())
    return {key: value[key] for key in value if key != "provenance"} if isinstance(value, dict) else value


def test_killed_workflow_goes_on_to_the_same_bytes(project):
    """Killed once its first output is there, and a random while later; the second time on top of that."""
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
    made = [path for part in ("corpora", "packed") for path in (folder / part).rglob("*") if path.is_file()]
    assert len(made) > 30
    for path in made:
        reference = project.folder / "results" / "smoke" / path.relative_to(folder)
        assert content(path) == content(reference), path
