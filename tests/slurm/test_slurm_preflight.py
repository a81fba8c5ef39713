"""`preflight` on a real Slurm: what it finds right, and the remedy for what it finds wrong."""

import subprocess

import pytest
from slurm_clone import SITE, Clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone(tmp_path_factory.mktemp("preflight") / "clone")


def start(clone, cluster, *arguments: str, **site: str) -> subprocess.Popen:
    """Start preflight."""
    return subprocess.Popen(
        clone.command(cluster, "preflight", "--quiet", "all", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=cluster.environment() | SITE | site,
    )


def preflight(clone, cluster, *arguments: str, **site: str) -> tuple[bool, str]:
    """Whether all was found right, and what was printed."""
    with start(clone, cluster, *arguments, **site) as process:
        printed, _ = process.communicate()
    return process.returncode == 0, printed


def test_finds_this_cluster_fit_but_for_gpus(clone, cluster):
    """Both at once, since Slurm looks at the ends of jobs twice a minute. Its GPUs are links to /dev/null."""
    on_gpus = "runs={one-node: {cpus: 0, gpus: 2}}"
    with start(clone, cluster) as fit, start(clone, cluster, "--config", on_gpus, "results=other") as unfit:
        printed, _ = fit.communicate()
        problems, _ = unfit.communicate()
    assert fit.returncode == 0 and "FAILED" not in printed, printed
    assert "training two-nodes: 2 node(s) with 0 GPU(s), 1 CPUs, 8000 MB: 2 such node(s)" in printed
    assert "jobs in cpu see this folder" in printed and "GB are free" in printed
    assert "cpu: Slurm sends SIGTERM ahead of a job's end" in printed and "cpu: /tmp" in printed
    assert unfit.returncode != 0 and "Slurm sends SIGTERM" in problems, problems
    assert "FAILED    GPU: gpu with GPUs: no CUDA: " in problems and problems.count("FAILED  ") == 1, problems


@pytest.mark.parametrize(
    ("arguments", "site", "message"),
    [
        (
            ("--config", "runs={one-node: {cpus: 0, gpus: 6}}"),
            {},
            "the most GPUs of model fake on a node are 2; set runs.one-node.nodes",
        ),
        ((), {"CPT_SLURM_TRAIN_MINUTES": "9999"}, "set CPT_SLURM_MAX_MINUTES=1440"),
    ],
)
def test_tells_what_is_wrong_and_the_remedy(clone, cluster, arguments, site, message):
    good, printed = preflight(clone, cluster, *arguments, **site)
    assert not good and message in printed, printed
    assert "FAILED" in printed and "nothing was submitted" in printed
