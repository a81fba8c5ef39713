"""scripts/train.py runs where only torch, transformers, numpy and what these need are installed."""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def install(packages: list[str], folder: Path) -> set[str]:
    """Link the packages and their requirements into a folder; return all names."""
    installed: set[str] = set()
    while packages:
        name = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", packages.pop())[0]).lower()
        try:
            package = distribution(name)
        except PackageNotFoundError:  # only needed on other systems
            continue
        if name not in installed:
            installed.add(name)
            packages += [other for other in package.requires or [] if "extra" not in other.partition(";")[2]]
            for part in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
                if not (folder / part).exists():
                    (folder / part).symlink_to(package.locate_file(part))
    return installed


def test_training_needs_only_torch_transformers_and_numpy(training, tmp_path):
    run = training()
    run.changed(tokens=8 * 64)
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = install(["torch", "transformers", "numpy"], packages)
    assert installed.isdisjoint({"accelerate", "deepspeed", "pandas", "psutil", "snakemake"})
    done = subprocess.run(
        [sys.executable, "-S", *run.command],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(run.metrics.step) == [1, 2]
