"""A private Slurm cluster, and clones of the project on it."""

import shutil
from collections.abc import Iterator

import pytest
from cluster import Cluster, missing
from slurm_clone import RUNS, TABLE1, Clone

ODD_NAME = "Ünïcode clone"
# Refuses the first submission as Slurm does at a limit, and keeps the environment of the last one.
BUSY_SBATCH = """#!/bin/sh
env > "$0.environment"
[ -e "$0.refused" ] && exec {sbatch} "$@"
touch "$0.refused"
echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2
echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (...)' >&2
exit 1
"""
WITHOUT_ACCOUNTING = (
    'for tool in sacct sacctmgr; do mount --bind /dev/null "$(command -v $tool)"; done; exec "$@"'
)
# Starts Snakemake in a job in which neither sacct nor sacctmgr can be called.
SESSION = ("srun", "--ntasks=1", "--cpus-per-task=3", "--mem=16000")
SESSION = (*SESSION, "unshare", "--mount", "sh", "-c", WITHOUT_ACCOUNTING, "sh")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A cluster of two nodes without slurmdbd."""
    if reason := missing():
        pytest.skip(f"no Slurm: {reason}")
    with Cluster(tmp_path_factory.mktemp("slurm") / "c") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def finished(tmp_path_factory, cluster) -> Clone:
    """A fresh clone in which the experiment has run on Slurm, undisturbed: from a session of srun, on a site
    without sacct that refuses the first job because of a limit, in a folder with an odd name.

    The cluster's network ends at its nodes, so the fixture first fetches what the login node would download.
    """
    folder = tmp_path_factory.mktemp("finished")
    sbatch = folder / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(BUSY_SBATCH.format(sbatch=shutil.which("sbatch")))
    sbatch.chmod(0o755)
    clone = Clone(folder / ODD_NAME)
    clone.locally("results/benchmarks", "--quiet", "all")
    clone.session = SESSION
    path = f"{sbatch.parent}:{cluster.environment()['PATH']}"
    clone.run(cluster, TABLE1, PATH=path, CPT_SLURM_RETRIES="0", CPT_SLURM_CONSTRAINT="fast&new")
    clone.session, clone.first_jobs = (), clone.all_jobs()
    return clone


@pytest.fixture
def untrained(tmp_path, finished) -> Clone:
    """A fresh clone with copied results of the base model and of everything before training."""
    clone = Clone(tmp_path / ODD_NAME)
    exclusions = shutil.ignore_patterns(*RUNS, "table1.*", "scores.csv", "logs", "timings")
    shutil.copytree(finished.results, clone.results, ignore=exclusions, dirs_exist_ok=True)
    return clone
