"""Resolve the settings that are `auto` for a device."""

import logging
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cpt import compilers
from cpt.errors import UserError
from cpt.train.compiled_layers import compiles
from cpt.train.softmax import chosen_softmax, liger_softmax


def resolve(settings: dict[str, Any], device: torch.device, work: Path) -> None:
    """Replace `compile` and `loss_kernel` in a plan's settings by their resolved values, and log them.

    All processes of a run call this: what `auto` allows is used only if all of them can do it. On a GPU it
    also sets up Triton's compiler (`CC`), which may leave a file in `work`.

    Raises UserError if the settings ask for something that isn't possible here.
    """
    asked = {key: settings[key] for key in ("compile", "loss_kernel")}
    if device.type == "cuda":
        compilers.wrap_compiler("CC", work)
        if asked["compile"] is True and (error := compilers.c_error()):
            raise UserError(f"train.compile: true isn't possible here: {error}; or set train.compile: false")
    settings["compile"] = _on_all_processes(compiles(settings, device))
    liger = chosen_softmax(settings | {"compile": False}, device) is liger_softmax
    settings["loss_kernel"] = "liger" if _on_all_processes(liger) else "pytorch"
    for key, value in asked.items():
        logging.info("%s: %s (asked for: %s)", key, settings[key], value)


def _on_all_processes(possible: bool) -> bool:
    """Whether all processes can do something; nodes may differ, for example in their compilers."""
    if not dist.is_initialized():
        return possible
    answers = [False] * dist.get_world_size()
    dist.all_gather_object(answers, possible)
    return all(answers)
