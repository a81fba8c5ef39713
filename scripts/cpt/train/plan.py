"""A run's plan: budgets turned into sequences and steps, checked against the packed data.

The plan is all that training needs to know of the config, so a run can be carried to any machine.
"""

import math
from typing import Any

from cpt.errors import UserError
from cpt.train.schedules import phases

# Settings that change speed and memory, never the batch a step sees or what is learned from it; and what is
# done about a bad step, so that a run which one stopped can go on from its checkpoint without it.
EXECUTION_KEYS = (
    *("micro_batch", "accumulate", "engine", "zero_stage", "offload", "gradient_checkpointing"),
    *("lean_layers", "checkpoint_every", "keep_checkpoints", "on_bad_step"),
)


def make_plan(
    run: str, tokens: int, processes: int, train: dict[str, Any], ledger: dict[str, Any], context_length: int
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

    Returns:
        A JSON-ready dict: sequences, steps, warmup_steps, cooldown_steps, decay_steps, global_batch
        (sequences per step; the last step takes what is left), what is learned with, and the execution
        settings.

    Raises:
        UserError: the budget is larger than the packed data, or sequences don't fit the model.
    """
    length = ledger["sequence_length"]
    if length > context_length:
        raise UserError(
            f"packing.sequence_length: {length} is over the model's context of {context_length} tokens; "
            f"set it to {context_length} or less"
        )
    sequences = tokens // length
    if sequences > ledger["sequences"]:
        raise UserError(
            f"runs.{run}.tokens: {tokens:,} tokens are {sequences:,} sequences of {length:,}, but mixture "
            f"{ledger['mixture']!r} has {ledger['sequences']:,} ({ledger['tokens']:,} tokens); lower the "
            f"budget, or give the mixture's corpora more text (corpora.*.shards, files or packages; a lower "
            "tokens_per_shard)"
        )
    global_batch = train.get("global_batch") or train["micro_batch"] * train["accumulate"] * processes
    steps = math.ceil(sequences / global_batch)
    learning = {key: value for key, value in train.items() if key not in EXECUTION_KEYS}
    learning.pop("global_batch", None)
    return {
        "run": run,
        "mixture": ledger["mixture"],
        "tokens": sequences * length,
        "sequences": sequences,
        "sequence_length": length,
        "global_batch": global_batch,
        "steps": steps,
        **phases(train, steps),
        "learning": learning,
        "execution": {key: train[key] for key in EXECUTION_KEYS if train.get(key) is not None},
        "sequences_sha256": ledger["sequences_sha256"],
    }
