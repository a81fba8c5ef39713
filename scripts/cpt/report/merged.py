"""What the merged config of an experiment says of its runs and files, where only the results are at hand."""

import re
from pathlib import Path
from typing import Any

import yaml

from cpt.mixtures import default_mixture

_NAME = "[^/]+"
_CORPUS_RULES = "download|filter_documents|minhash|decontaminate|tokenize_documents|held_out"
_RUN_RULES = "plan_run|train|interpolate|release"
# The files of a results folder whose path names a run, a mixture, a corpus or a model.
_NAMING = [
    re.compile(pattern)
    for pattern in (
        rf"corpora/(?P<corpora>{_NAME})/.+",
        rf"packed/(?P<mixtures>{_NAME})/.+",
        rf"reference_losses/(?P<mixtures>{_NAME})/(?P<models>{_NAME})/.+",
        rf"(runs|evaluations)/(?P<runs>{_NAME})/.+",
        rf"evaluations/{_NAME}/bits_per_byte\.(?P<corpora>{_NAME})\.json",
        rf"released/(?P<runs>{_NAME})(/.+)?",
        rf"models/(base\.scores|(?P<models>{_NAME}))\.json",
        rf"timings/({_CORPUS_RULES})/(?P<corpora>{_NAME}?)(/{_NAME})?\.tsv",
        rf"timings/held_out_tokens/(?P<corpora>{_NAME})\.\d+\.tsv",
        rf"timings/pack/(?P<mixtures>{_NAME})\.tsv",
        rf"timings/reference_losses/(?P<mixtures>{_NAME})/(?P<models>{_NAME})/.+",
        rf"timings/reference_model/(?P<models>{_NAME})\.tsv",
        rf"timings/({_RUN_RULES})/(?P<runs>{_NAME})\.tsv",
        rf"timings/evaluate_tasks/(?P<runs>{_NAME})/.+",
        rf"timings/bits_per_byte/(?P<runs>{_NAME})/(?P<corpora>{_NAME})\.tsv",
        rf"timings/page/card-(?P<runs>{_NAME})\.tsv",
    )
]


def read_merged(root: Path) -> dict[str, Any]:
    """The merged config of the results in `root`."""
    return yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))


def belongs(path: str, config: dict[str, Any]) -> bool:
    """Whether a file of the results is of no run, mixture, corpus or model that the config doesn't have.

    Files of those that were taken out of the config stay in the folder. `path` is relative to it.
    """
    known = {key: set(config[key]) for key in ("runs", "mixtures", "corpora")}
    known["models"] = {"base", *config["runs"], *config.get("reference_models", ())}
    return all(
        name in known[kind]
        for pattern in _NAMING
        if (found := pattern.fullmatch(path))
        for kind, name in found.groupdict().items()
        if name is not None
    )


def mixtures_of(config: dict[str, Any], run: str) -> list[str]:
    """The names of the mixtures that a trained run reads, in their order."""
    mixtures, settings = config["mixtures"], config["runs"][run]
    later = [settings["switch"]["mixture"]] if settings.get("switch") else []
    return [settings.get("mixture") or default_mixture(mixtures), *later]


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
