"""A run's plan: budgets turned into sequences and steps, checked against the packed data.

The plan is all that training needs to know of the config, so a run can be carried to any machine.
"""

import math
from typing import Any

from cpt.errors import UserError
from cpt.train.schedules import phases

# What two mixtures of one run must have in common, in their ledger.json.
PACKED_ALIKE = ("sequence_length", "dtype", "tokenizer_sha256")

# Settings that change speed and memory, never the batch a step sees or what is learned from it; and what is
# done about a bad step, so that a run which one stopped can go on from its checkpoint without it.
EXECUTION_KEYS = (
    *("micro_batch", "accumulate", "engine", "zero_stage", "offload", "gradient_checkpointing"),
    *("lean_layers", "compile", "loss_kernel", "checkpoint_every", "keep_checkpoints", "on_bad_step"),
    "held_out",
)


def sequences_per_step(train: dict[str, Any], processes: int) -> int:
    """The global batch: the one that is set, or what all processes take between two updates."""
    return train.get("global_batch") or train["micro_batch"] * train["accumulate"] * processes


def make_plan(
    run: str,
    tokens: int,
    processes: int,
    train: dict[str, Any],
    ledger: dict[str, Any],
    context_length: int,
    switch_at: float = 1.0,
    switch_ledger: dict[str, Any] | None = None,
    continued: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Resolve a run's budget.

    Args:
        run: the run's name, for messages.
        tokens: budget in tokens; rounded down to whole sequences, each counted with its whole length,
            padding included.
        processes: training processes (one per GPU); only used where the global batch follows from it.
        train: the `train` section of the config, this run's own keys merged in.
        ledger: the mixture's ledger.json (sequences, sequence_length, sequences_sha256, ...).
        context_length: of the model, in tokens.
        switch_at: share of the steps after which the run goes on with another mixture.
        switch_ledger: that mixture's ledger.json.
        continued: plan of the run that this one continues, so that it goes on at the next rows.

    Returns:
        A JSON-ready dict: sequences, steps, warmup_steps, cooldown_steps, decay_steps, global_batch
        (sequences per step; the last step takes what is left), the stages (rows of a mixture), what is
        learned with, and the execution settings. `rows_used` tells for each mixture how far the run and
        those that it continues went.

    Raises:
        UserError: the budget is larger than the packed data, sequences don't fit the model, or the two
            mixtures aren't packed alike.
    """
    length = ledger["sequence_length"]
    if length > context_length:
        raise UserError(
            f"packing.sequence_length: {length} is over the model's context of {context_length} tokens; "
            f"set it to {context_length} or less"
        )
    sequences = tokens // length
    global_batch = sequences_per_step(train, processes)
    steps = math.ceil(sequences / global_batch)
    parts = [(ledger, sequences)]
    if switch_ledger is not None:
        before = _sequences_before_switch(run, steps, global_batch, switch_at, ledger, switch_ledger)
        parts = [(ledger, before), (switch_ledger, sequences - before)]
    rows_used = dict(continued["rows_used"]) if continued else {}
    stages = []
    for packed, size in parts:
        first = rows_used.get(packed["mixture"], 0)
        if first + size > packed["sequences"]:
            part = f" ({size:,} of this mixture, from row {first:,} on)" if first or switch_ledger else ""
            raise UserError(
                f"runs.{run}.tokens: {tokens:,} tokens are {sequences:,} sequences of {length:,}{part}, but "
                f"mixture {packed['mixture']!r} has {packed['sequences']:,} ({packed['tokens']:,} tokens); "
                "lower the budget, or give the mixture's corpora more text (corpora.*.shards, files or "
                "packages; a lower tokens_per_shard)"
            )
        rows_used[packed["mixture"]] = first + size
        stages.append(
            {
                "mixture": packed["mixture"],
                "first_sequence": first,
                "sequences": size,
                "sequences_sha256": packed["sequences_sha256"],
            }
        )
    learning = {key: value for key, value in train.items() if key not in EXECUTION_KEYS}
    learning.pop("global_batch", None)
    return {
        "run": run,
        "continues": continued["run"] if continued else None,
        "tokens": sequences * length,
        "sequences": sequences,
        "sequence_length": length,
        "global_batch": global_batch,
        "steps": steps,
        **phases(train, steps),
        "stages": stages,
        "rows_used": rows_used,
        "learning": learning,
        "execution": {key: train[key] for key in EXECUTION_KEYS if train.get(key) is not None},
    }


def _sequences_before_switch(
    run: str, steps: int, global_batch: int, at: float, first: dict[str, Any], second: dict[str, Any]
) -> int:
    """Whole steps, at least one on either side. Raises UserError as make_plan says."""
    for key in PACKED_ALIKE:
        if first.get(key) != second.get(key):
            raise UserError(
                f"runs.{run}.switch: mixtures {first['mixture']!r} and {second['mixture']!r} aren't packed "
                f"alike ({key}: {first.get(key)!r} and {second.get(key)!r}); remove both and pack again"
            )
    if steps < 2:
        raise UserError(f"runs.{run}.switch: the run has one step only; raise its tokens")
    return min(max(1, round(at * steps)), steps - 1) * global_batch


def require_separate_documents(run: str, train: dict[str, Any], base_report: dict[str, Any]) -> None:
    """Check that documents can be masked in this architecture, if a run asks for it.

    Some architectures ignore positions that restart at 0, and would attend across documents without a word.
    `base_report` is models/base.json. Raises UserError.
    """
    if train["document_masking"] and not base_report["restarted_positions_separate_documents"]:
        raise UserError(
            f"runs.{run}: train.document_masking has no effect on {base_report['architecture']}, in which "
            "tokens attend to those of other documents wherever positions start again; set it to false, or "
            "take another base model"
        )
