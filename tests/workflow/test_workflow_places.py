"""Odd places, and odd ways to start the workflow. The finished project lies in a folder with an odd name."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from project_copy import SMOKE

FILTERED = "out put/corpora/pydantic/filtered/00000.parquet"
# Makes the clone and the environment read-only.
READ_ONLY = 'for folder in "$0" "$1"; do mount -o bind,ro "$folder" "$folder"; done; shift; exec "$@"'


def test_from_elsewhere_with_a_clone_and_environment_of_others(project, tmp_path):
    """A read-only clone, `-s` and `--directory` with spaces and umlauts, two --configfile, and --until."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", "--mount", *user]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here")
    overlay = tmp_path / "über lay.yaml"
    overlay.write_text(
        yaml.safe_dump({"results": "out put", "corpora": {"pydantic": {"packages": ["attr"]}}})
    )
    smoke = project.folder / "experiments" / "smoke.yaml"
    elsewhere = tmp_path / "öther place"
    snakemake = [sys.executable, "-B", "-m", "snakemake", FILTERED, "--until", "filter_documents"]
    snakemake += ["--cores", "1", "-s", str(project.folder / "Snakefile"), "--directory", str(elsewhere)]
    namespace = [*unshare, "sh", "-c", READ_ONLY, str(project.folder), sys.prefix]
    project.run([*namespace, *snakemake, "--configfile", str(smoke), str(overlay)], folder=tmp_path)
    assert (elsewhere / FILTERED).stat().st_size > 1000


def test_two_experiments_at_the_same_time_in_one_clone(project):
    """A second experiment leaves the first one's locks, so that another start of the first is refused."""

    def experiment(name: str) -> list[str]:
        return [*SMOKE, "--config", f"results=results/{name}"]

    locks = project.folder / ".snakemake" / "locks"
    running = subprocess.Popen(
        project.command(*experiment("first")),
        cwd=project.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not any("results/first/table1.csv" in lock.read_text() for lock in locks.glob("*")):
            assert running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGSTOP)  # it holds its locks, and leaves the processors
        project.snakemake("results/second/config.yaml", *experiment("second"))
        again = ["results/first/table1.csv", "--rerun-incomplete", *experiment("first")]
        refused = project.snakemake(*again, check=False)
        assert "Directory cannot be locked" in refused
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        project.snakemake("--unlock", *experiment("first"))
    assert not any(locks.glob("*"))
    assert (project.folder / "results" / "second" / "config.yaml").exists()
    for name in ("first", "second"):
        shutil.rmtree(project.folder / "results" / name, ignore_errors=True)  # it may not exist yet


def test_touch_without_results(project):
    printed = project.snakemake("--touch", *SMOKE, "--config", "results=results/nowhere")
    assert "Error" not in printed
    shutil.rmtree(project.folder / "results" / "nowhere")
