"""Frozen releases: folders with models and their scores, which the workflow never changes again.

A release holds `release.json`, a folder for each run, config.yaml, tables, and evaluations/.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.files import read_json

RECORD = "release.json"


def release_folder(results: str, release: str) -> str:
    """Returns the folder of a release, given by name, or by path if `release` has a slash."""
    return release if "/" in release else f"{results}/releases/{release}"


def read_record(folder: str | Path) -> dict[str, Any]:
    """Read release.json of a frozen release. Raises UserError if it is missing."""
    path = Path(folder) / RECORD
    if not path.is_file():
        raise UserError(
            f"release.compare_to: no {path}; name a release that `snakemake freeze` made, or the path of its "
            "folder"
        )
    return read_json(path)


def compared_runs(record: dict[str, Any], released: Collection[str]) -> list[str]:
    """Returns the runs of a release that this experiment also has. Raises UserError if it has none of them.

    Args:
        record: the content of release.json.
        released: this experiment's runs that have a model of their own.
    """
    runs = [run for run in record["runs"] if run in released]
    if not runs:
        raise UserError(
            f"release.compare_to: {record['name']} has the models {', '.join(record['runs'])}, and no run "
            f"here has such a name ({', '.join(released) or 'none'}); name a run as the one that it is "
            "compared with"
        )
    return runs


def frozen_name(release: str, run: str) -> str:
    """Returns the name under which a release's model is scored beside this experiment's runs."""
    return f"{Path(release).name}.{run}"


def holds(releases: Path, model: Path) -> bool:
    """Whether one of the releases has the weights of the model in this folder (as hard links)."""
    weights = sorted(model.glob("*.safetensors"))
    return any(
        all((frozen / file.name).is_file() and file.samefile(frozen / file.name) for file in weights)
        for frozen in releases.glob(f"*/{model.name}")
    )
