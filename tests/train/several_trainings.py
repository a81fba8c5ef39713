"""Train several times in the same processes, which saves their start: for the tests of the engines.

Usage: several_trainings.py LIST, a JSON file with one object per training: the arguments of
cpt.train.loop.train and, where it is to be interrupted, `stop_after`, the number of a step during which
every process is sent SIGTERM. A finished training leaves in its work folder `run.json` (its summary) and
`held-0.json`, `held-1.json`, ... (what each process held before its last step).
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cpt.train import engines, loop

rate = loop.learning_rate


def train(plan: dict[str, Any], work: Path, stop_after: int | None, **folders: Path) -> None:
    """Train by the loop, which asks for the rate between the last backward pass of a step and its update."""
    running = []

    def make_engine(*arguments: Any) -> engines.Engine:
        running.append(engines.make_engine(*arguments))
        return running[-1]

    def learning_rate(step: int, plan: dict[str, Any]) -> float:
        if step + 1 == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        if step + 1 == plan["steps"]:
            held = json.dumps(running[0].held_bytes())
            (work / f"held-{os.environ.get('RANK', '0')}.json").write_text(held)
        return rate(step, plan)

    loop.make_engine, loop.learning_rate = make_engine, learning_rate
    try:
        summary = loop.train(plan, work=work, kind="cpu", **folders)
    except SystemExit as stopped:
        assert stop_after and stopped.code == loop.EXIT_INTERRUPTED, stopped.code
        return
    assert stop_after is None
    if summary is not None:
        (work / "run.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    for training in json.loads(Path(sys.argv[1]).read_text()):
        paths = {key: Path(training.pop(key)) for key in ("model_folder", "sequences_folder", "work")}
        train(**training, **paths)
