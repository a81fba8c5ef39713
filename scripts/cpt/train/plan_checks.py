"""A plan's checks of learning rates, GPUs and access to the base model, and its time for scoring."""

import os
from collections.abc import Mapping
from pathlib import Path

from cpt.config import Config
from cpt.config_runs import Train
from cpt.data_sets import COUNTS
from cpt.train.costs import CPU, Shape

USUAL_RATES = 1e-6, 1e-3  # peaks of AdamW in continued pre-training; most lie around 1e-5 to 3e-4
# Prefixes of the names of hub repositories whose licence must be accepted first.
GATED = ("facebook/MobileLLM-", "meta-llama/", "google/gemma-")
# Core-hours that scoring all items of the paper's test sets takes for a model of 135M parameters
# (docs/performance-evaluation.md).
ALL_ITEMS_HOURS = 3.3


def rate_warnings(train: Mapping[str, Train]) -> list[str]:
    """Warnings about runs whose peak learning rate is unusual."""
    low, high = USUAL_RATES
    return [
        f"runs.{run}.train.learning_rate: {settings.learning_rate:g} is "
        + (
            f"over {high:g}, at which continued pre-training mostly forgets or diverges; lower it"
            if settings.learning_rate > high
            else f"below {low:g}, at which a model hardly changes; raise it"
        )
        for run, settings in train.items()
        if not low <= settings.learning_rate <= high
    ]


def gpu_warnings(config: Config, gpus: int, cluster: bool) -> list[str]:
    """Warnings about runs that need more GPUs per machine than this one has, if it has no Slurm.

    Args:
        config: validated.
        gpus: number on this machine.
        cluster: whether this machine has Slurm.
    """
    wanting = {run: config.runs[run].gpus // config.runs[run].nodes for run in config.trained_runs}
    wanting = {run: count for run, count in wanting.items() if count > gpus}
    if cluster or not wanting:
        return []
    listed = ", ".join(f"{run} {count}" for run, count in wanting.items())
    return [
        f"runs.*.gpus: this machine has {gpus} GPUs and no Slurm, and the runs ask for more ({listed}); "
        "start Snakemake where they are (docs/clusters.md), or set runs.X.cpus instead of gpus"
    ]


def access_warnings(config: Config) -> list[str]:
    """Warnings about hub models that are known to be gated, if there is no access token."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    if os.environ.get("HF_TOKEN") or (home / "token").is_file():
        return []
    sources = {
        "base": config.base,
        **{f"reference_models.{name}": source for name, source in config.reference_models.items()},
    }
    return [
        f"{key}.repo: {source.repo} is gated, and there is no access token here; accept its licence on the "
        "hub and set HF_TOKEN (or run `hf auth login`)"
        for key, source in sources.items()
        if source.source == "hub" and source.repo.startswith(GATED)
    ]


def scoring_hours(config: Config, shape: Shape) -> float:
    """Core-hours for scoring all runs on the paper's test sets on CPUs, scaled from a model of 135M
    parameters; a GPU takes a small part of them."""
    items = sum(
        min(COUNTS[name], limit) if (limit := task.items or config.evaluate.items) else COUNTS[name]
        for task in config.evaluate.tasks.values()
        if (name := (task.task or "").removesuffix("_continuation")) in COUNTS
    )
    parameters = shape.parameters / CPU.shape.parameters
    return len(config.runs) * ALL_ITEMS_HOURS * parameters * items / sum(COUNTS.values())
