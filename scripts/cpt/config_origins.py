"""What a run's model is made from: the run that it starts from, or the models that it is a sum of."""

import math
from collections.abc import Collection

from cpt.config_errors import require_known
from cpt.config_runs import Run

Runs = dict[str, Run]


def made_from(run: Run) -> list[str]:
    """Names of the models that a run's model is made from; none: the base model alone."""
    return [*(run.merge or {}), *([run.start_from] if run.start_from else [])]


def trained_by(runs: Runs, name: str) -> list[str]:
    """The runs whose training a model went through, each once and after those that it is made from.

    Unknown names and circles, which `check_origins` refuses, end it.
    """
    found: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in runs and name not in seen:
            seen.add(name)
            for before in made_from(runs[name]):
                visit(before)
            found.extend([name] if runs[name].tokens else [])

    visit(name)
    return found


def trained_tokens(runs: Runs, name: str) -> int:
    """The training tokens that went into a model: of each run that it went through, once."""
    return sum(runs[run].tokens for run in trained_by(runs, name))


def row_order(runs: Runs, name: str) -> tuple[int, float, bool]:
    """What rows of Table 1 are sorted by: tokens; between the base model and a run the run's coefficient, so
    that these models come before the run; other sums come after it."""
    merge = runs[name].merge
    return trained_tokens(runs, name), 1 - merge.get("base", 0.0) if merge else 1.0, bool(merge)


def check_origins(name: str, runs: Runs, reference_models: Collection[str]) -> None:
    """Check what a run's model is made from. Raises ValueError that names the key."""
    run = runs[name]
    if run.start_from is not None:
        require_known(run.start_from, runs, f"runs.{name}.start_from", "runs")
    if run.merge is not None:
        _check_merge(name, runs, reference_models)
    ways, seen = [[name]], set()
    while ways:
        way = ways.pop()
        for before in made_from(runs[way[-1]]):
            if before == name:
                key = "merge" if run.merge else "start_from"
                raise ValueError(
                    f"runs.{name}.{key}: goes round in a circle: {' -> '.join([*way, name])}; name another"
                )
            if before in runs and before not in seen:
                seen.add(before)
                ways.append([*way, before])


def _check_merge(name: str, runs: Runs, reference_models: Collection[str]) -> None:
    where, merge = f"runs.{name}.merge", runs[name].merge
    if not merge:
        raise ValueError(
            f"{where}: empty; name models and coefficients, such as {{base: 0.5, {_example(runs)}: 0.5}}"
        )
    for model in merge:
        known = dict.fromkeys(["base", *runs, *reference_models])
        require_known(model, known, where, "runs or reference_models")
    if not math.isclose(total := math.fsum(merge.values()), 1, abs_tol=1e-9):
        raise ValueError(
            f"{where}: the coefficients add up to {total:g} instead of 1, so all weights would be {total:g} "
            f"times as large; fix them, such as {{base: 0.5, {_example(runs)}: 0.5}} between two models, or "
            f"{{{_example(runs)}: 1, instruct: 1, pretrained: -1}} for a difference added to a model"
        )
    if not trained_by(runs, name):
        raise ValueError(
            f"{where}: none of {', '.join(merge)} was trained here, so its row of Table 1 has no tokens; "
            "name a run with tokens"
        )


def _example(runs: Runs) -> str:
    return next((name for name, run in runs.items() if run.tokens), "run")
