"""The lock, the conda file and the container recipe describe one environment, which this one is."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

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
    }  # and nothing else
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


class Index:
    """A package index in a folder, of packages that hold nothing."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.url = folder.as_uri()

    def add(self, name: str, version: str, *needs: str) -> None:
        """Add a version of a package, and what it needs."""
        wheel = self.folder / name.replace("_", "-") / f"{name}-{version}-py3-none-any.whl"
        wheel.parent.mkdir(parents=True)
        needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
        metadata = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}"}
        metadata |= {"WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "RECORD": ""}
        with ZipFile(wheel, "w") as file:
            for part, text in metadata.items():
                file.writestr(f"{name}-{version}.dist-info/{part}", text)
        (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')


# `-m venv` would take seconds to install pip, so this links to the pip of this environment.
QUICK_PYTHON = """#!/bin/sh
[ "$2" = venv ] || exec {python} "$@"
shift 2
{python} -m venv --without-pip "$@"
ln -sf {pip} .venv/lib/python*/site-packages/
printf '#!/bin/sh\\nexec .venv/bin/python -m pip "$@"\\n' >.venv/bin/pip
chmod +x .venv/bin/pip
"""


def test_another_build_of_pytorch(tmp_path):
    """It stays until the user asks for another; that one replaces it with all of its packages."""
    pypi, others = Index(tmp_path / "pypi"), Index(tmp_path / "o thers" / "cu126")
    pypi.add("torch", "2.13.0", "nvidia_cublas==13.0")
    pypi.add("nvidia_cublas", "13.0")
    others.add("torch", "2.13.0+cu126", "nvidia_cublas_cu12==12.6")
    others.add("nvidia_cublas_cu12", "12.6")
    lock = tmp_path / "envs" / "requirements.txt"
    lock.parent.mkdir()
    lock.write_text("# The lock.\ntorch==2.13.0\n")
    (tmp_path / "Makefile").write_bytes((ENVS.parent / "Makefile").read_bytes())
    (lock.parent / "snakemake").write_bytes((ENVS / "snakemake").read_bytes())
    pip_package = Path(find_spec("pip").origin).parent
    (tmp_path / "python").write_text(QUICK_PYTHON.format(python=sys.executable, pip=pip_package))
    (tmp_path / "python").chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "MAKE", "TORCH_"))}
    pip = {"PIP_INDEX_URL": pypi.url, "PIP_CONFIG_FILE": os.devnull}
    pip |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"}

    def environment(*options: str) -> tuple[str, set[str]]:
        """What `make environment` prints, and the packages of PyTorch that it leaves installed."""
        command = ["make", "environment", "PYTHON=./python", *options]
        done = subprocess.run(
            command, cwd=tmp_path, env=env | pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout
        folders = (tmp_path / ".venv").glob("lib/python*/site-packages/*.dist-info")
        return done.stdout, {path.stem for path in folders if path.name.startswith(("torch", "nvidia"))}

    cuda_12 = {"torch-2.13.0+cu126", "nvidia_cublas_cu12-12.6"}
    assert environment(f"TORCH_INDEX={others.url}")[1] == cuda_12
    os.utime(tmp_path / ".venv" / "installed", (0, 0))  # the lock is newer
    printed, packages = environment()
    assert f"--index-url '{others.url}' " in printed and packages == cuda_12
    for options in ((), (f"TORCH_INDEX={others.url}",)):
        printed, packages = environment(*options)
        assert "Nothing to be done" in printed and packages == cuda_12
    assert environment(f"TORCH_INDEX={pypi.url}")[1] == {"torch-2.13.0", "nvidia_cublas-13.0"}
