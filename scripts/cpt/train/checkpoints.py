"""Checkpoints that any engine on any number of processes can continue from.

A checkpoint is a folder `step-00000050` with `model.safetensors` (float32 weights),
`optimizer.safetensors` (AdamW's first and second moment of each weight) and `state.json` (step, the
run's identity, SHA-256 of both files). It is written under a temporary name and renamed, so a folder
of that name is complete; its checksums are verified before use all the same.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cpt.files import atomic, read_json, sha256_of, write_json

TensorsByName = dict[str, torch.Tensor]
FILES = ("model.safetensors", "optimizer.safetensors")


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), reverse=True)


def save(
    root: Path, step: int, identity: str, weights: TensorsByName, moments: TensorsByName, keep: int
) -> None:
    """Write the checkpoint after `step` steps and remove all but the newest `keep`.

    `weights` maps parameter names to float32 tensors, `moments` maps `exp_avg.NAME` and
    `exp_avg_sq.NAME` to float32 tensors of the same shapes; all on the CPU.
    """
    with atomic(root / f"step-{step:08d}") as folder:
        folder.mkdir()
        for name, tensors in zip(FILES, (weights, moments), strict=True):
            save_file(tensors, folder / name)
        checksums = {name: sha256_of(folder / name) for name in FILES}
        write_json(folder / "state.json", {"step": step, "identity": identity, "sha256": checksums})
    for old in _folders(root)[keep:]:
        shutil.rmtree(old)


def newest(root: Path, identity: str) -> Path | None:
    """The newest complete checkpoint of this run, or None.

    A corrupt one is passed over with a warning. Checkpoints of another identity (other data, other
    settings, another start) are removed: they'd never be used again.
    """
    for folder in _folders(root):
        try:
            state = read_json(folder / "state.json")
            if state["identity"] != identity:
                logging.warning("%s belongs to other settings or data; starting over", folder)
                shutil.rmtree(folder)
                continue
            if all(sha256_of(folder / name) == state["sha256"][name] for name in FILES):
                return folder
            problem = "checksums differ"
        except (OSError, ValueError, KeyError) as error:
            problem = str(error)
        logging.warning("%s is corrupt (%s); falling back to the checkpoint before it", folder, problem)
    return None


def load(folder: Path) -> tuple[dict[str, Any], TensorsByName, TensorsByName]:
    """Read (state, weights, moments) as `save` wrote them."""
    return read_json(folder / "state.json"), *(load_file(folder / name) for name in FILES)
