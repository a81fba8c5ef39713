"""The lock, the conda file and the container recipe describe one environment, which this one is."""

import re
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ENVS = Path(__file__).resolve().parents[1] / "envs"
LOCK = [
    Requirement(line)
    for line in (ENVS / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def test_the_lock_pins_every_package_and_is_what_is_installed():
    assert len(LOCK) > 100
    for requirement in LOCK:
        (pin,) = requirement.specifier
        assert pin.operator == "==" and not pin.version.endswith("*"), requirement
        if requirement.marker is None or requirement.marker.evaluate():
            assert version(requirement.name).partition("+")[0] == pin.version, requirement.name


def test_conda_and_container_install_the_lock_on_the_same_python():
    conda = yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"]
    python = next(
        re.fullmatch(r"python=([\d.]+)", entry)[1] for entry in conda if str(entry).startswith("python")
    )
    (pip,) = (entry["pip"] for entry in conda if isinstance(entry, dict))
    assert pip == ["--requirement requirements.txt"]  # relative to the conda file
    assert {entry for entry in conda if isinstance(entry, str)} == {
        f"python={python}",
        "pip",
    }  # nothing beside it
    recipe = (ENVS / "cpt.def").read_text()
    assert re.search(rf"^From: python:{re.escape(python)}-", recipe, re.MULTILINE)
    copied = re.search(r"^%files\n\s+envs/requirements.txt (\S+)$", recipe, re.MULTILINE)[1]
    assert re.findall(r"pip install .*", recipe) == [f"pip install --no-cache-dir --requirement {copied}"]
    assert tuple(map(int, python.split("."))) >= (3, 11)  # as the Makefile asks for


def test_the_slurm_plugin_is_one_that_places_gpus_rightly():
    pins = {requirement.name: str(requirement.specifier)[2:] for requirement in LOCK}
    numbers = {name: tuple(map(int, pins[name].split("."))) for name in pins if "slurm" in name}
    assert numbers["snakemake-executor-plugin-slurm"] >= (2, 8, 0)
    assert numbers["snakemake-executor-plugin-slurm-jobstep"] >= (0, 6, 1)
