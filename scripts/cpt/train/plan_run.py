"""A run's plan: budgets turned into sequences and steps, checked against the packed data.

The plan has everything that training needs from the config, so a run can move to any machine.
"""

import json
import math
from fractions import Fraction
from typing import Any

from cpt.config_runs import Train
from cpt.errors import UserError
from cpt.mixtures import PACKED_DIGESTS
from cpt.sizes import over_context, sequences_per_step
from cpt.train.schedules import learning_rate

# Keys of ledger.json that must be equal in the two mixtures of a run.
PACKED_ALIKE = ("sequence_length", "dtype", "tokenizer_sha256")

# Settings that change speed and memory, but neither the batch of a step nor what is learned from it. Also
# `on_bad_step`, so that a run that stopped at a bad step can resume and skip it.
EXECUTION_KEYS = (
    "micro_batch", "accumulate", "engine", "zero_stage", "offload", "gradient_checkpointing", "compile",
    "loss_kernel", "checkpoint_every", "keep_checkpoints", "on_bad_step", "held_out",
)  # fmt: skip


def global_batch(train: Train, processes: int) -> int:
    """Sequences per step: `global_batch` if it is set, else what all processes take between two updates."""
    return train.global_batch or sequences_per_step(train.micro_batch, train.accumulate, processes)


def exact(share: float | None) -> Fraction:
    """A share exactly as the config writes it: 0.07 is 7/100, though its float is slightly more."""
    return Fraction(repr(float(share or 0)))


def phases(train: Train, steps: int) -> dict[str, int]:
    """The phases of a run's schedule in steps, from their shares.

    Returns:
        warmup_steps, cooldown_steps and decay_steps, each rounded up, together never more than `steps`.
    """
    counts, left = {}, steps
    for phase in ("warmup", "cooldown", "decay"):
        counts[f"{phase}_steps"] = min(left, math.ceil(exact(getattr(train, phase)) * steps))
        left -= counts[f"{phase}_steps"]
    return counts


def make_plan(
    run: str,
    tokens: int,
    processes: int,
    train: Train,
    ledgers: list[dict[str, Any]],
    context_length: int,
    switch_at: float | None = None,
    continued: dict[str, Any] | None = None,
    point: int = 0,
    keep_every: int = 0,
) -> dict[str, Any]:
    """Resolve a run's budget.

    Args:
        run: the run's name, for messages.
        tokens: budget in tokens; rounded down to whole sequences, each counted with its whole length,
            padding included.
        processes: training processes (one per GPU); only used if the global batch depends on them.
        train: the `train` section of the config, this run's own keys merged in.
        ledgers: the mixture's ledger.json (sequences, sequence_length, sequences_sha256, ...), and that of a
            second mixture for the end of the run.
        context_length: of the model, in tokens.
        switch_at: share of the steps before the second mixture.
        continued: plan of the run that this one continues, so that it starts at the next rows.
        point: tokens of that run after which this one branches off; 0: its end.
        keep_every: tokens between states that are kept; 0: none.

    Returns:
        A JSON-ready dict: sequences, steps, warmup_steps, cooldown_steps, decay_steps, global_batch
        (sequences per step; the last step takes the rest), the stages (rows of a mixture), and the
        `learning` and `execution` settings. `rows_used` is the number of rows of each mixture that this run
        and those before it use, `steps_before` the number of steps of those before it. `kept` is the step
        after which each state is kept, by tokens (rounded down to whole steps).

    Raises:
        UserError: the budget is larger than the packed data, sequences don't fit the model, the two
            mixtures aren't packed alike, or a branch doesn't begin at its trunk's learning rate.
    """
    length = ledgers[0]["sequence_length"]
    if problem := over_context(length, context_length):
        raise UserError(problem)
    sequences, batch = tokens // length, global_batch(train, processes)
    steps = math.ceil(sequences / batch)
    sizes = [sequences]
    if switch_at is not None:
        before = _sequences_before_switch(run, steps, batch, switch_at, *ledgers)
        sizes = [before, sequences - before]
    steps_before = 0
    if continued:
        steps_before = continued["kept"][str(point)] if point else continued["steps"]
    rows_used = _rows_used(continued, steps_before) if continued else {}
    stages = _stages(run, tokens, ledgers, sizes, rows_used)
    # Sorted, so that the same settings give the same bytes.
    settings = json.loads(json.dumps(train.model_dump(mode="json"), sort_keys=True))
    del settings["global_batch"]
    planned = {
        "run": run,
        "continues": continued["run"] if continued else None,
        "tokens": sequences * length,
        "sequences": sequences,
        "sequence_length": length,
        "global_batch": batch,
        "steps": steps,
        **phases(train, steps),
        "stages": stages,
        "rows_used": rows_used,
        "learning": {key: value for key, value in settings.items() if key not in EXECUTION_KEYS},
        "execution": {key: settings[key] for key in EXECUTION_KEYS if settings[key] is not None},
    }
    if keep_every:
        points = range(keep_every, tokens, keep_every)
        planned["kept"] = {str(kept): kept // (batch * length) for kept in points}
    if continued:
        planned["steps_before"] = continued.get("steps_before", 0) + steps_before
        if point:
            _require_same_rate(planned, continued, steps_before)
    return planned


def _stages(
    run: str, tokens: int, ledgers: list[dict[str, Any]], sizes: list[int], rows_used: dict[str, int]
) -> list[dict[str, Any]]:
    """The rows that a run takes of each mixture; adds them to `rows_used`. Raises as make_plan does."""
    length = ledgers[0]["sequence_length"]
    stages = []
    for packed, size in zip(ledgers, sizes, strict=True):
        first = rows_used.get(packed["mixture"], 0)
        if first + size > packed["sequences"]:
            part = f" ({size:,} of this mixture, from row {first:,} on)" if first or len(ledgers) > 1 else ""
            raise UserError(
                f"runs.{run}.tokens: {tokens:,} tokens are {sum(sizes):,} sequences of {length:,}{part}, but "
                f"mixture {packed['mixture']!r} has {packed['sequences']:,} ({packed['tokens']:,} tokens); "
                "lower the budget, or give its corpora more shards, files or packages"
            )
        rows_used[packed["mixture"]] = first + size
        stages.append(
            {
                "mixture": packed["mixture"],
                "first_sequence": first,
                "sequences": size,
                **{digest: packed[digest] for digest in PACKED_DIGESTS if digest in packed},
            }
        )
    return stages


def _rows_used(plan: dict[str, Any], steps: int) -> dict[str, int]:
    """Rows of each mixture that a planned run and those before it used after `steps` of its steps."""
    used, left = dict(plan["rows_used"]), steps * plan["global_batch"]
    for stage in plan["stages"]:
        seen = min(left, stage["sequences"])
        used[stage["mixture"]] = stage["first_sequence"] + seen
        left -= seen
    return used


def _require_same_rate(branch: dict[str, Any], trunk: dict[str, Any], steps: int) -> None:
    """Raise UserError unless a branch begins at the learning rate that its trunk has after `steps` steps."""
    rates = learning_rate(steps, trunk), learning_rate(0, branch)
    if rates[0] != rates[1]:
        raise UserError(
            f"runs.{branch['run']}: a branch begins at the learning rate of {trunk['run']}, {rates[0]:g} "
            f"after step {steps:,}, not at {rates[1]:g}; branch off where the rate is constant, and set "
            "warmup: 0"
        )


def _sequences_before_switch(
    run: str, steps: int, batch: int, at: float, first: dict[str, Any], second: dict[str, Any]
) -> int:
    """Sequences before the switch: whole steps, at least one on each side. Raises as make_plan does."""
    for key in PACKED_ALIKE:
        if first.get(key) != second.get(key):
            raise UserError(
                f"runs.{run}.switch: mixtures {first['mixture']!r} and {second['mixture']!r} aren't packed "
                f"alike ({key}: {first.get(key)!r} and {second.get(key)!r}); remove both and pack again"
            )
    if steps < 2:
        raise UserError(f"runs.{run}.switch: the run has one step only; raise its tokens")
    return min(max(1, round(exact(at) * steps)), steps - 1) * batch


def require_separate_documents(run: str, train: Train, base_report: dict[str, Any]) -> None:
    """Check that documents can be masked in this architecture, if a run asks for it.

    Some architectures ignore positions that restart at 0, and would attend across documents without an error.
    `base_report` is models/base.json. Raises UserError.
    """
    if train.document_masking and not base_report["restarted_positions_separate_documents"]:
        raise UserError(
            f"runs.{run}: train.document_masking has no effect on {base_report['architecture']}, in which "
            "tokens attend to those of other documents wherever positions start again; set it to false, or "
            "take another base model"
        )
