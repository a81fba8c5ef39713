"""Train several times in the same processes, which saves their start, for the tests of the engines.

Usage: several_trainings.py LIST, a JSON file with one object per training: the arguments of
cpt.train.loop.train (`kind` is "cpu" by default), and `stop_after`, the number of steps after which every
process gets SIGTERM, or null. After its first step each training has one whose loss isn't a number, which
must leave no trace. A finished training leaves in its work folder `run.json` (its summary), and
`held-0.json`, ... (the bytes that each process held before its last update).
"""

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from cpt.train import engines, loop
from cpt.train.processes import end_at_once


def train(plan: dict[str, Any], work: Path, stop_after: int | None, kind: str = "cpu", **others: Any) -> None:
    """Train with the loop, and watch its engine's updates."""
    steps = 0

    def make_engine(*arguments: Any) -> engines.Engine:
        engine = engines.make_engine(*arguments)
        update, forward = engine.step, engine.loss
        inputs: tuple[torch.Tensor, ...] = ()

        def loss(*batch: torch.Tensor, **last: bool) -> torch.Tensor:
            nonlocal inputs
            inputs = batch
            return forward(*batch, **last)

        def step(learning_rate: float) -> float:
            nonlocal steps
            steps += 1
            if steps == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            held = work / f"held-{os.environ.get('RANK', '0')}.json"
            held.write_text(json.dumps(engine.held_bytes()))
            norm = update(learning_rate)
            if steps == 1:
                engine.backward(forward(*inputs).sum() * math.nan)
                assert math.isnan(update(learning_rate))
            return norm

        engine.step, engine.loss = step, loss
        return engine

    loop.make_engine = make_engine
    try:
        summary = loop.train(plan, work=work, kind=kind, **others)
    except SystemExit as stopped:
        assert stop_after and stopped.code == loop.EXIT_INTERRUPTED, stopped.code
        return
    assert stop_after is None
    if summary is not None:
        (work / "run.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    for training in json.loads(Path(sys.argv[1]).read_text()):
        for key in ("sequences_folders", "reference_losses"):
            training[key] = [Path(folder) for folder in training.get(key, [])]
        paths = {key: Path(training.pop(key)) for key in ("model_folder", "work")}
        train(**training, **paths)
    end_at_once(0)
