from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import one_for_each, write_json
from cpt.train.merging import require_alike


def check_merge(run: str, names: list[str], models: Sequence[Path], report: Path) -> None:
    """Check, before anything trains, that a sum's imported models fit the base model.

    Args:
        run: name of the run that is the sum.
        names: names of the base model and of the imported models.
        models: their folders, in the same order.
        report: what was compared, to write (JSON).
    """
    stored = require_alike(run, dict(one_for_each(names, models)))
    write_json(report, {"models": names, "tensors_of_each": len(stored[names[0]])})


if __name__ == "__main__":
    run_stage(check_merge)
