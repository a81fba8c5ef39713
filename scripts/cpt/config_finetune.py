"""Runs that are fine-tuned on conversations: their mixtures and checks."""

from collections.abc import Mapping
from typing import Any

from cpt.config_errors import require_known
from cpt.config_runs import Run
from cpt.config_sections import Corpus
from cpt.mixtures import default_mixture


def with_mixtures(config: Any) -> Any:
    """Returns an unvalidated config in which each run with `finetune` has a `mixture`.

    `finetune: chat` with a corpus `chat` adds the mixture `chat` of that corpus alone, unless it exists. Runs
    that name no mixture keep the default mixture that they had before this addition.
    """
    sections = (
        [config.get(key) or {} for key in ("runs", "mixtures", "corpora")] if isinstance(config, dict) else []
    )
    if not sections or not all(isinstance(section, Mapping) for section in sections):
        return config
    runs, mixtures, corpora = sections
    settings = {name: run for name, run in runs.items() if isinstance(run, Mapping)}
    chosen = {run["finetune"] for run in settings.values() if isinstance(run.get("finetune"), str)}
    added = {name: {name: 1.0} for name in sorted(chosen) if name in corpora and name not in mixtures}
    default = default_mixture(mixtures)
    new = dict(runs)
    for name, run in settings.items():
        mixture = run.get("finetune") or (
            default if run.get("tokens") and default in mixtures and added else None
        )
        if mixture and not run.get("mixture"):
            new[name] = {**run, "mixture": mixture}
    return {**config, "runs": new, "mixtures": {**mixtures, **added}}


def check_finetune(
    name: str, run: Run, mixtures: Mapping[str, Mapping[str, float]], corpora: Mapping[str, Corpus]
) -> None:
    """Raise ValueError unless a run with `finetune` trains only on conversations."""
    if run.finetune is None:
        return
    where = f"runs.{name}.finetune"
    require_known(run.finetune, {**corpora, **mixtures}, where, "corpora or mixtures")
    for key, clashes in (("mixture", run.mixture != run.finetune), ("switch", run.switch is not None)):
        if clashes:
            raise ValueError(f"runs.{name}.{key}: {where} says what the run trains on; remove one of them")
    for corpus in mixtures[run.finetune]:
        if corpus in corpora and not corpora[corpus].conversations:
            raise ValueError(
                f"{where}: {corpus} has no conversations; set corpora.{corpus}.conversations: true if its "
                "rows hold messages, or train on it with `mixture` instead"
            )
