"""What a run's model is made from: the run that it starts from, or the models that it sums."""

import math
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from typing import Any

from cpt.config_errors import require_known
from cpt.config_runs import Run, Train, split_point
from cpt.config_values import parse_count
from cpt.sizes import sequences_per_step

Runs = dict[str, Run]


def source_models(run: Run) -> list[str]:
    """Returns the names of the models that a run's model is made from; empty: the base model alone."""
    models = [*(run.merge or {}), *([run.start_from] if run.start_from else [])]
    return list(dict.fromkeys(split_point(model)[0] for model in models))


def tokens_by_run(runs: Runs, name: str) -> dict[str, int]:
    """Returns the training tokens of each run that went into a model, each run after those it is made from.

    If several states of a run went into the model, the latest state counts. Unknown names and circles are
    skipped here; `check_origins` refuses them.
    """
    run_tokens: dict[str, int] = {}

    def visit(model: str, above: tuple[str, ...]) -> None:
        run, point = split_point(model)
        if run not in runs or run in above:
            return
        for before in [*(runs[run].merge or {}), *filter(None, [runs[run].start_from])]:
            visit(before, (*above, run))
        if tokens := point or runs[run].tokens:
            run_tokens[run] = max(run_tokens.get(run, 0), tokens)

    visit(name, ())
    return run_tokens


def reach(runs: Runs, model: str, mixtures_of: Callable[[str], list[str]]) -> dict[str, Fraction]:
    """Returns the tokens of each mixture that a run, or RUN@TOKENS, and the runs that it continues read, by
    name; `mixtures_of` returns the mixtures of a run in order."""
    run, point = split_point(model)
    settings = runs[run]
    mixture_tokens = reach(runs, settings.start_from, mixtures_of) if settings.continues else {}
    # Exact decimal shares: with binary fractions, 3 * 0.1 would need one shard more.
    before = settings.tokens * (Fraction(str(settings.switch.at)) if settings.switch else Fraction(1))
    tokens = point or settings.tokens
    for mixture, part in zip(mixtures_of(run), (min(before, tokens), max(0, tokens - before)), strict=False):
        mixture_tokens[mixture] = mixture_tokens.get(mixture, Fraction(0)) + part
    return mixture_tokens


def row_order(runs: Runs, name: str) -> tuple[int, float, bool]:
    """Returns the sort key of a row of Table 1: tokens first. Sums of the base model and a run come before
    the run, by the run's coefficient; other sums come after it."""
    merge, tokens = runs[name].merge, sum(tokens_by_run(runs, name).values())
    return tokens, 1 - merge.get("base", 0.0) if merge else 1.0, bool(merge)


def with_averages(config: Any) -> Any:
    """Returns an unvalidated config with each `{last_checkpoints: K, of: RUN}` replaced by the mean of the
    run's model and the last K - 1 states that it keeps before its end (Kaddour 2022, arXiv 2209.14981).

    Raises ValueError if the run keeps fewer states.
    """
    runs = config.get("runs") if isinstance(config, Mapping) else None
    if not isinstance(runs, Mapping):
        return config
    new = dict(runs)
    for name, run in runs.items():
        merge = run.get("merge") if isinstance(run, Mapping) else None
        if isinstance(merge, Mapping) and "last_checkpoints" in merge:
            new[name] = {**run, "merge": _average(f"runs.{name}.merge", merge, runs)}
    return {**config, "runs": new}


def _average(where: str, merge: Mapping[str, Any], runs: Mapping[str, Any]) -> dict[str, str]:
    count, run = merge["last_checkpoints"], merge.get("of")
    if set(merge) != {"last_checkpoints", "of"} or type(count) is not int or count < 2:
        raise ValueError(
            f"{where}: expected {{last_checkpoints: 2 or more, of: a run}}, but {dict(merge)!r} was given"
        )
    require_known(run, runs, f"{where}.of", "runs")
    settings = runs[run] if isinstance(runs[run], Mapping) else {}
    tokens, every = (parse_count(settings.get(key) or 0) for key in ("tokens", "keep_every"))
    points = range(every, tokens, every) if every else ()
    if len(points) < count - 1:
        raise ValueError(
            f"{where}: {run} leaves {len(points) + 1} of {count} checkpoints; set runs.{run}.keep_every to "
            f"{max(1, tokens // count):,} tokens or fewer"
        )
    models = [run, *(f"{run}@{point}" for point in reversed(points[len(points) - count + 1 :]))]
    return dict.fromkeys(models, f"1/{count}")


def check_origins(name: str, runs: Runs, reference_models: Collection[str]) -> None:
    """Check what a run's model is made from. Raises ValueError, which names the key."""
    run = runs[name]
    if run.start_from is not None:
        require_known(split_point(run.start_from)[0], runs, f"runs.{name}.start_from", "runs")
        _check_point(f"runs.{name}.start_from", run.start_from, runs)
    if run.merge is not None:
        _check_merge(name, runs, reference_models)
    if run.greedy and (run.merge is None or len(run.merge) < 2 or min(run.merge.values()) <= 0):
        raise ValueError(
            f"runs.{name}.greedy: chooses among models to be averaged; set runs.{name}.merge to two or more, "
            "with equal coefficients"
        )
    if run.greedy and not math.isclose(min(run.merge.values()), max(run.merge.values())):
        raise ValueError(
            f"runs.{name}.greedy: averages in equal parts; give all models of merge the same share"
        )
    ways, seen = [[name]], set()
    while ways:
        way = ways.pop()
        for before in source_models(runs[way[-1]]):
            if before == name:
                key = "merge" if run.merge else "start_from"
                raise ValueError(
                    f"runs.{name}.{key}: goes round in a circle: {' -> '.join([*way, name])}; name another"
                )
            if before in runs and before not in seen:
                seen.add(before)
                ways.append([*way, before])


def _check_point(where: str, model: str, runs: Runs) -> None:
    """Raise ValueError unless the run keeps the state RUN@TOKENS."""
    name, tokens = split_point(model)
    if "@" not in model:
        return
    every, end = (runs[name].keep_every, runs[name].tokens) if name in runs else (0, 0)
    if not every or not 0 < tokens < end or tokens % every:
        kept = list(range(every, end, every))[-5:] if every else []
        raise ValueError(
            f"{where}: {name} keeps no state after {tokens:,} tokens"
            + (f"; the last that it keeps: {', '.join(f'{name}@{point}' for point in kept)}" if kept else "")
            + f"; set runs.{name}.keep_every to tokens that divide it"
        )


def check_kept(name: str, run: Run, train: Train, sequence_length: int) -> None:
    """Raise ValueError unless the states of `keep_every` are between the first step and the last one."""
    batch = train.global_batch or sequences_per_step(train.micro_batch, train.accumulate, run.processes)
    step = batch * sequence_length
    if not run.keep_every:
        return
    if not step <= run.keep_every < run.tokens:
        raise ValueError(
            f"runs.{name}.keep_every: {run.keep_every:,} tokens, but a step has {step:,} and the run "
            f"{run.tokens:,}; set a number between them"
        )
    steps = math.ceil(run.tokens // sequence_length / batch)
    last = (run.tokens - 1) // run.keep_every * run.keep_every
    if last // step >= steps:
        raise ValueError(
            f"runs.{name}.keep_every: the state after {last:,} tokens is the run's end, step {steps}; change "
            "keep_every, or the run's tokens by a step"
        )


def check_continued(name: str, runs: Runs, trains: dict[str, Train]) -> None:
    """Check a run that continues another; `trains` are the `train` sections of all trained runs.

    A branch leaves its trunk before the end. It must leave where the learning rate is constant, and begin at
    that rate: then it equals a run planned so from the start. Raises ValueError.
    """
    run = runs[name]
    if run.start_from is None:
        raise ValueError(f"runs.{name}.continues: has no effect without start_from; name a run there")
    trunk, tokens = split_point(run.start_from)
    if not runs[trunk].tokens:
        raise ValueError(
            f"runs.{name}.start_from: {trunk} isn't trained, so there is nothing to continue; name a run "
            "with tokens, or leave out `continues`"
        )
    if not tokens:
        return
    before, after = trains[trunk], trains[name]
    done = tokens / runs[trunk].tokens
    if before.schedule not in ("warmup_stable_decay", "infinite") or not (
        before.warmup + (before.cooldown or 0) <= done <= 1 - before.decay
    ):
        raise ValueError(
            f"runs.{name}.start_from: the learning rate of {trunk} isn't constant after {tokens:,} tokens; "
            f"give {trunk} schedule: warmup_stable_decay with decay: 0, and branch from it after its warmup"
        )
    if after.warmup or after.cooldown or _constant_rate(after) != _constant_rate(before):
        raise ValueError(
            f"runs.{name}.train: a branch begins at the rate of {trunk}, {_constant_rate(before):g}; set "
            "warmup: 0, no cooldown and the same learning rate"
        )


def _constant_rate(train: Train) -> float:
    """Returns the rate before a schedule decays. Without warmup and cooldown, every schedule begins there."""
    return train.constant_learning_rate if train.schedule == "infinite" else train.learning_rate


def _check_merge(name: str, runs: Runs, reference_models: Collection[str]) -> None:
    where, merge = f"runs.{name}.merge", runs[name].merge
    if not merge:
        raise ValueError(
            f"{where}: empty; name models and coefficients, such as {{base: 0.5, {_example(runs)}: 0.5}}"
        )
    for model in merge:
        models = dict.fromkeys(["base", *runs, *reference_models])
        require_known(split_point(model)[0], models, where, "runs or reference_models")
        _check_point(where, model, runs)
    if not math.isclose(total := math.fsum(merge.values()), 1, abs_tol=1e-9):
        raise ValueError(
            f"{where}: the coefficients add up to {total:g} instead of 1; fix them, such as "
            f"{{base: 0.5, {_example(runs)}: 0.5}}, or {{{_example(runs)}: 1, instruct: 1, pretrained: -1}} "
            "to add a difference of two models"
        )
    if not tokens_by_run(runs, name):
        raise ValueError(
            f"{where}: none of {', '.join(merge)} was trained here, so its row of Table 1 has no tokens; "
            "name a run with tokens"
        )


def _example(runs: Runs) -> str:
    return next((name for name, run in runs.items() if run.tokens), "run")
