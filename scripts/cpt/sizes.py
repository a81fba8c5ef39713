"""Sizes of files, models, sequences and steps, for plans and for what jobs ask Slurm for."""

# Of FineWeb-Edu: 4.7 kB and 1,034 tokens per document (docs/performance-corpus.md); 2.15 GB per file for 600M
# training tokens (config.yaml).
TEXT_BYTES_PER_TOKEN, PARQUET_BYTES_PER_TOKEN = 4.5, 3.6
# Float32 weights, and AdamW's two moments by `train.moments`; a checkpoint has both.
MODEL_BYTES_PER_PARAMETER = 4
MOMENTS_BYTES_PER_PARAMETER = {"float32": 8, "bf16": 4, "8bit": 2}
# Positions whose logits exist at once. On a CPU more aren't faster (docs/performance-training.md). On a GPU,
# not measured, fewer would spend the time on summing the head's gradient.
LOGIT_ROWS = {"cpu": 256, "cuda": 2048}


def checkpoint_bytes_per_parameter(moments: str) -> int:
    """Returns a checkpoint's bytes per parameter, with moments stored as `train.moments` says."""
    return MODEL_BYTES_PER_PARAMETER + MOMENTS_BYTES_PER_PARAMETER[moments]


def kept_states(tokens: int, keep_every: int) -> int:
    """Returns the number of states that a run of `tokens` keeps for branches; `keep_every` 0: none."""
    return (tokens - 1) // keep_every if keep_every else 0


def model_bytes_per_parameter(moments: str, states: int) -> int:
    """Returns the bytes per parameter of a run's model and of the states that it keeps for branches."""
    return MODEL_BYTES_PER_PARAMETER + checkpoint_bytes_per_parameter(moments) * states


def training_bytes_per_parameter(moments: str, checkpoints: int, states: int) -> int:
    """Returns a run's peak bytes per parameter on disk: checkpoints, one more than it keeps, and its model.

    At the end its states for branches exist three times: as checkpoints, in the work folder's model and in
    the model.
    """
    work_bytes_per_parameter = checkpoint_bytes_per_parameter(moments) * (checkpoints + 1 + 2 * states)
    return work_bytes_per_parameter + model_bytes_per_parameter(moments, states)


def token_bytes(vocabulary: int | None) -> int:
    """Returns the bytes of a token id in token files; the minimum if the vocabulary isn't known yet."""
    return 4 if vocabulary and vocabulary > 2**16 else 2


def sequences_per_step(micro_batch: int, accumulate: int, processes: int) -> int:
    """Returns the sequences that all processes together read between two updates."""
    return micro_batch * accumulate * processes


def micro_batches(share: int) -> list[int]:
    """Returns the micro-batches to try for a process's share of a step: the share, then lower powers of 2."""
    return [share, *(2**power for power in reversed(range(share.bit_length())) if 2**power < share)]


def over_context(sequence_length: int, context: int) -> str | None:
    """Returns an error message if a sequence length is over the model's context, else None."""
    if sequence_length <= context:
        return None
    return (
        f"packing.sequence_length: {sequence_length} is over the model's context of {context} tokens; set it "
        f"to {context} or less, or choose another base model"
    )
