import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpt.command import run
from cpt.files import one_for_each, read_json, write_json
from cpt.preregistration import plan_sha256, registered_label
from cpt.progress import NOTICE
from cpt.provenance import provenance


def preregister(
    plans: Sequence[Path],
    base: Path,
    benchmarks: Path,
    record: Path,
    runs: list[str],
    question: str,
    prediction: str,
    config: dict[str, Any],
    started: Sequence[str],
) -> None:
    """Put question, prediction and plan on record before any run trains, and show the digest of the plan.

    Args:
        plans: plan.json of each run: budget, steps, and the digests of its sequences.
        base: models/base.json.
        benchmarks: benchmarks.json.
        record: preregistration.json to write.
        runs: the trained runs, in the order of `plans`.
        question: what the experiment asks.
        prediction: what it is expected to show.
        config: the settings that results depend on.
        started: runs that have results or checkpoints by now, of this plan or of an earlier one.
    """
    plan = {
        "question": question,
        "prediction": prediction,
        "config": config,
        "runs": {
            name: {key: value for key, value in read_json(path).items() if key != "provenance"}
            for name, path in one_for_each(runs, plans)
        },
        "base_model": read_json(base)["sha256"],
        "benchmarks": {
            task: content["content_sha256"] for task, content in read_json(benchmarks)["tasks"].items()
        },
    }
    content = {
        "sha256": plan_sha256(plan),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs_with_results": list(started),
        "plan": plan,
        "provenance": provenance(config),
    }
    write_json(record, content)
    logging.log(NOTICE, "%s (%s)", registered_label(content), record)


if __name__ == "__main__":
    run(preregister)
