import logging
import shutil
from pathlib import Path

from cpt.command import run
from cpt.config import Config
from cpt.files import write_text
from cpt.gpus import gpu_names
from cpt.train.costs import bos_of, shape_of
from cpt.train.plan import ExperimentPlan


def plan(config: Config, local_bytes: dict[str, int], page: Path, model: Path | None = None) -> None:
    """Plan an experiment before anything is spent: tokens, steps, device-hours, memory, disk, warnings.

    Args:
        config: the merged config.
        local_bytes: size of own files, by corpus.
        page: page to write (Markdown).
        model: the base model's folder, if it is imported already.
    """
    shape, adds_bos = shape_of(config.base, model), bos_of(config.packing, model)
    cluster = shutil.which("sbatch") is not None
    experiment = ExperimentPlan(config, shape, local_bytes, adds_bos, len(gpu_names()), cluster)
    write_text(page, experiment.markdown())
    for warning in experiment.warnings():
        logging.warning("warning: %s", warning)


if __name__ == "__main__":
    run(plan)
