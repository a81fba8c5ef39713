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
    hub: Sequence[Repository] = (),
    model: Path | None = None,
) -> None:
    """Compare what the jobs will ask for with what the cluster offers, before anything is submitted.

    Args:
        requests: the largest jobs.
        site: the site's values.
        results: folder of the results.
        config: the merged config.
        local_bytes: size of own files, by corpus.
        hub: repositories of the hub that will be read.
        model: the base model's folder, if it is imported already.
    """
    experiment = ExperimentPlan(config, shape_of(config.base, model), local_bytes)
    check_all(requests, hub, site, results, experiment.disk())


if __name__ == "__main__":
    run(preflight)
