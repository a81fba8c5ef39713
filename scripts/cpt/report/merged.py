"""What the merged config of an experiment says of a run, where only the file is at hand."""

from typing import Any


def mixtures_of(config: dict[str, Any], run: str) -> list[str]:
    """The names of the mixtures that a trained run reads, in their order."""
    mixtures, settings = config["mixtures"], config["runs"][run]
    default = next(iter(mixtures)) if len(mixtures) == 1 else "domain"
    later = [settings["switch"]["mixture"]] if settings.get("switch") else []
    return [settings.get("mixture") or default, *later]


def trained_by(config: dict[str, Any], name: str) -> list[str]:
    """The runs whose training a model went through, the first one first.

    A run comes after those that it starts from; an interpolated model has those of the run that it leads to.
    """
    found: list[str] = []
    model: str | None = name
    while model is not None:
        run = config["runs"][model]
        if run.get("tokens"):
            found.insert(0, model)
        model = run["interpolate"]["run"] if run.get("interpolate") else run.get("start_from")
    return found
