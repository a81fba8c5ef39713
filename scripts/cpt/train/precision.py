"""The precision in which a run computes, if that depends on the machine."""

import logging
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from cpt.cpu import bfloat16_gain, processor
from cpt.digest import settings_digest
from cpt.files import read_json, write_json

# Smallest speed-up of bfloat16's products that is worth its rounding and the time for casts.
WORTH = 1.2


def chosen_precision(
    plan: dict[str, Any], model: nn.Module, work: Path, device: torch.device, rank: int
) -> str:
    """Resolve a plan's `precision` to `bf16` or `float32`, the same on all processes.

    On a CPU, `bf16` and `auto` mean bfloat16 if the first process measures that the model's products are
    faster in it (by WORTH). The work folder keeps the answer, so that a run resumes with it on the same kind
    of processor. Another kind, where it could be many times as slow, is measured again.

    Args:
        plan: of the run.
        model: float32, on the CPU.
        work: folder of the run.
        device: of this process.
        rank: of this process.
    """
    asked = plan["learning"]["precision"]
    if asked == "float32":
        return asked
    if device.type == "cuda":
        return precision_on_gpu(asked)
    answers = [_measure_precision(plan, asked, model, work) if rank == 0 else None]
    if dist.is_initialized():
        dist.broadcast_object_list(answers, src=0)
    return answers[0]


def precision_on_gpu(asked: str) -> str:
    """Returns `bf16` or `float32`: `auto` is bfloat16 if the GPU has instructions for it."""
    if asked == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False):
        logging.info("precision: float32 (asked for: auto), as the GPU has no instructions for bfloat16")
        return "float32"
    return "bf16" if asked == "auto" else asked


def _measure_precision(plan: dict[str, Any], asked: str, model: nn.Module, work: Path) -> str:
    path = work / "precision.json"
    key = {"learning": settings_digest(plan["learning"]), "processor": processor()}
    record = read_json(path) if path.exists() else {}
    if record.get("for") != key:
        gain = bfloat16_gain(model)
        record = {"for": key, "gain": round(gain, 2), "precision": "bf16" if gain >= WORTH else "float32"}
        write_json(path, record)
    level = logging.WARNING if asked == "bf16" and record["precision"] == "float32" else logging.INFO
    logging.log(
        level,
        "precision: %s (asked for: %s); bfloat16 makes this CPU's products %.2f times as fast as float32, "
        "and %.1f times is the least to use it (docs/training-memory.md)",
        record["precision"],
        asked,
        record["gain"],
        WORTH,
    )
    return record["precision"]
