import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.command import run
from cpt.files import atomic, link, sha256_of, write_json
from cpt.frozen import RECORD
from cpt.provenance import provenance


def freeze(
    folder: Path,
    released: Sequence[Path],
    tables: Sequence[Path],
    evaluations: Sequence[Path],
    name: str,
    runs: dict[str, int],
    held_out: dict[str, Any],
) -> None:
    """Keep models and their current scores in a release, which later results don't change.

    Weights are hard links, so that they take no room while the results still have them.

    Args:
        folder: folder of the release, to write.
        released: folders of the models, with their cards.
        tables: config.yaml, models/base.json and tables of the results.
        evaluations: scores, answers and losses of the models and of the base model.
        name: name of the release.
        runs: training tokens of each model.
        held_out: how text is held out of each corpus.
    """
    with atomic(folder) as unfinished:
        for model in released:
            for path in sorted(model.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    copy = unfinished / model.name / path.relative_to(model)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    link(path, copy)
        for path in tables:
            shutil.copyfile(path, unfinished / path.name)
        for path in evaluations:
            copy = unfinished / "evaluations" / path.parent.name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        files = [path for path in sorted(unfinished.rglob("*")) if path.is_file()]
        record = {
            "name": name,
            "runs": runs,
            "held_out": held_out,
            "files": {path.relative_to(unfinished).as_posix(): sha256_of(path) for path in files},
            "provenance": provenance({"name": name, "runs": runs, "held_out": held_out}),
        }
        write_json(unfinished / RECORD, record)


if __name__ == "__main__":
    run(freeze)
