"""What files take on the disk, for plans and for what jobs ask Slurm for."""

# Of FineWeb-Edu: 4.7 kB and 1,034 tokens per document (docs/performance.md); 2.15 GB per file for 600M
# training tokens (config.yaml).
TEXT_BYTES_PER_TOKEN, PARQUET_BYTES_PER_TOKEN = 4.5, 3.6
# Float32 weights; with them, in a checkpoint, AdamW's two moments.
MODEL_BYTES_PER_PARAMETER, CHECKPOINT_BYTES_PER_PARAMETER = 4, 12


def token_bytes(vocabulary: int | None) -> int:
    """Bytes of a token id in files of tokens; of a vocabulary that isn't known yet, the fewest."""
    return 4 if vocabulary and vocabulary > 2**16 else 2
