"""The section `preregister`, and runs that form a grid of learning rates and data orders."""

from itertools import product
from typing import Any

from pydantic import Field

from cpt.config_sections import Section

NOT_PLANNED = {"name", "results", "preregister", "release", "chat"}  # they change no result


class Preregister(Section):
    """What is expected, on record with the plan before any run trains."""

    question: str = Field(min_length=1, description="what the experiment asks")
    prediction: str = Field(min_length=1, description="what it is expected to show, and what would refute it")


def planned_settings(cfg: Any) -> dict[str, Any]:
    """Returns the keys of a cpt.config.Config that results depend on, as JSON values."""
    return cfg.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=NOT_PLANNED)


def grid_of(cfg: Any) -> dict[str, tuple[float, int]]:
    """Returns peak learning rate and data order (the mixture's seed) of the runs that differ only in these.

    The result is by run. It is empty unless there are at least two of each, and every combination once.
    """

    def rest(run: str) -> dict[str, Any]:
        """Returns what the runs of a grid have in common. It contains the mixture's shares, not its name."""
        settings = cfg.runs[run].model_dump(exclude={"mixture", "train", "replicate_of"})
        rates = {"learning_rate", "minimum_learning_rate", "constant_learning_rate"}
        return settings | {
            "mixture": cfg.mixtures[cfg.mixture_of(run)],
            "train": cfg.train_settings(run).model_dump(exclude=rates),
        }

    groups: list[tuple[dict[str, Any], dict[str, tuple[float, int]]]] = []
    for run in cfg.trained_runs:
        point = (cfg.train_settings(run).learning_rate, cfg.packing_settings(cfg.mixture_of(run)).seed)
        mine = rest(run)
        for common, members in groups:
            if common == mine:
                members[run] = point
                break
        else:
            groups.append((mine, {run: point}))
    for _, members in groups:
        rates, orders = ({point[axis] for point in members.values()} for axis in (0, 1))
        if min(len(rates), len(orders)) > 1 and sorted(members.values()) == sorted(product(rates, orders)):
            return members
    return {}
