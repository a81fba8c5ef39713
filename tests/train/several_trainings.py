"""Train several times in the same processes, which saves their start: for the tests of the engines.

Usage: several_trainings.py LIST, a JSON file with one object per training: the arguments of
cpt.train.loop.train and, where it is to be interrupted, `stop_after`, the number of a step during which
every process is sent SIGTERM.
"""

import json
import os
import signal
import sys
from pathlib import Path

from cpt.train import loop

next_rate = loop.learning_rate


def main() -> None:
    """Train as listed, in order; rank 0 writes each finished training's summary into its work folder."""
    for training in json.loads(Path(sys.argv[1]).read_text()):
        stop_after = training.pop("stop_after", None)

        def rate_and_stop(step: int, plan: dict, stop_after: int | None = stop_after) -> float:
            if step + 1 == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return next_rate(step, plan)

        loop.learning_rate = rate_and_stop
        folders = (Path(training[key]) for key in ("model_folder", "sequences_folder", "work"))
        try:
            summary = loop.train(training["plan"], *folders, "cpu")
        except SystemExit as stopped:
            assert stop_after and stopped.code == loop.EXIT_INTERRUPTED, stopped.code
        else:
            assert stop_after is None
            if summary is not None:
                (Path(training["work"]) / "run.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
