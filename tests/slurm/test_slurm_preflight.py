"""`preflight` on a real Slurm: which checks pass, and the remedy for those that fail."""

import pytest
from slurm_clone import Clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone(tmp_path_factory.mktemp("preflight") / "clone")


def test_this_cluster_is_fit_but_for_gpus(clone, cluster):
    """Both at once, since Slurm checks the ends of jobs twice a minute. Its GPUs are links to /dev/null."""
    on_gpus = "runs={one-node: {cpus: 0, gpus: 2}}"
    with (
        clone.start_preflight(cluster) as fit,
        clone.start_preflight(cluster, "--config", on_gpus, "results=other") as unfit,
    ):
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
def test_reports_what_is_wrong_and_the_remedy(clone, cluster, arguments, site, message):
    good, printed = clone.preflight(cluster, *arguments, **site)
    assert not good and message in printed, printed
    assert "FAILED" in printed and "nothing was submitted" in printed
