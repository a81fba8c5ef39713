"""What a finished run writes: its model's folder, its metrics and its summary."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cpt.files import atomic, write_json
from cpt.model_folders import SHARD_BYTES, copy_companions, name_rotary_base
from cpt.train import checkpoints
from cpt.train.set_aside import clear


def save_model(weights: checkpoints.TensorsByName, start_folder: Path, output: Path) -> None:
    """Write a folder for `AutoModelForCausalLM.from_pretrained`, with the start folder's other files.

    `weights` are float32 tensors by parameter name, tied ones once.
    """
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(start_folder), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    with atomic(output) as folder:
        with checkpoints.os_errors(output):
            model.save_pretrained(folder, max_shard_size=SHARD_BYTES)
        name_rotary_base(folder)
        copy_companions(start_folder, folder)


def write_run(summary: dict[str, Any], work: Path, model: Path, curves: dict[str, Path], run: Path) -> None:
    """Move a finished run's results to where the workflow expects them; run.json comes last.

    `curves` are the destinations of the CSV files in `work`, by their names there.
    """
    with atomic(model) as folder:
        shutil.copytree(work / "model", folder)
    for name, output in curves.items():
        with atomic(output) as file:
            shutil.copyfile(work / name, file)
    write_json(run, summary)
    clear(work)
