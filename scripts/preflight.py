from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config import Config
from cpt.preflight import Repository, Request, Site, check_all
from cpt.train.costs import shape_of
from cpt.train.plan import ExperimentPlan


def preflight(
    requests: Sequence[Request],
    site: Site,
    results: Path,
    config: Config,
    local_bytes: dict[str, int],
    cluster: bool,
    hub: Sequence[Repository] = (),
    model: Path | None = None,
) -> None:
    """Try what the jobs will need, on the cluster or on this machine, before the first of them starts.

    Args:
        requests: the largest jobs.
        site: the site's values.
        results: folder of the results.
        config: the merged config.
        local_bytes: size of own files, by corpus.
        cluster: whether jobs are submitted to Slurm.
        hub: repositories of the hub that will be read.
        model: the base model's folder, if it is imported already.
    """
    experiment = ExperimentPlan(config, shape_of(config.base, model), local_bytes)
    check_all(requests, hub, site, results, config, experiment.disk(), cluster)


if __name__ == "__main__":
    run(preflight)
