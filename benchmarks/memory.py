"""What fits on a GPU: the settings that plan.md recommends, for models and memories of your choice."""

import logging
from collections.abc import Sequence
from typing import Literal

from cpt.command import run
from cpt.errors import UserError
from cpt.train.costs import KNOWN_MODELS
from cpt.train.recommendation import recommended

SMOL = [f"HuggingFaceTB/SmolLM2-{size}" for size in ("135M", "360M", "1.7B")]
COLUMNS = ["model", "GPU", "engine", "moments", "checkpointing", "micro_batch", "GB of it", "GB offloaded"]


def memory(
    models: Sequence[str] = SMOL,
    gigabytes: Sequence[int] = (8, 12, 16, 24),
    processes: int = 1,
    global_batch: int = 256,
    sequence_length: int = 2_000,
    precision: Literal["bf16", "float32"] = "bf16",
) -> None:
    """Print the fastest settings that fit, by the formulas of scripts/cpt/train/costs.py, without measuring.

    Args:
        models: names on the hub of models whose shapes are in costs.py.
        gigabytes: memory of each GPU, in GB (10^9 bytes).
        processes: GPUs.
        global_batch: sequences per step over all GPUs.
        sequence_length: tokens per sequence.
        precision: precision of the computation.
    """
    if unknown := sorted(set(models) - KNOWN_MODELS.keys()):
        raise UserError(f"--models: {unknown[0]} is none of {', '.join(KNOWN_MODELS)}")
    rows = [COLUMNS, ["---", *["---:" if "GB" in name or "batch" in name else "---" for name in COLUMNS[1:]]]]
    for model in models:
        for size in gigabytes:
            share = -(-global_batch // processes)
            setting = recommended(
                KNOWN_MODELS[model], size * 1e9, share, sequence_length, processes, precision
            )
            row = [model, f"{size} GB"]
            if setting:
                stage = f", zero_stage {setting.zero_stage}" if setting.engine == "deepspeed" else ""
                offload = f", offload {' and '.join(setting.offload)}" if setting.offload else ""
                row += [setting.engine + stage + offload, setting.moments, str(setting.checkpointing).lower()]
                row += [
                    str(setting.micro_batch),
                    f"{setting.gpu_bytes / 1e9:.1f}",
                    f"{setting.cpu_bytes / 1e9:.1f}",
                ]
            rows.append(row + ["nothing fits"] * (len(COLUMNS) - len(row)))
    logging.info("\n%s", "\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    run(memory)
