"""Models between two models: a curve from having forgotten nothing to having learned all, untrained."""

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cpt.errors import UserError
from cpt.files import atomic
from cpt.model_folders import copy_companions


def interpolated_model(base: Path, trained: Path, ratio: float, output: Path) -> None:
    """Write the model (1 - ratio) * base + ratio * trained, in float32, saved in the trained model's dtypes.

    Interpolation in weight space as in WiSE-FT (Wortsman et al. 2022, eq. 1). Everything but the weights
    is copied from the trained model's folder. Holds one model and two tensors in memory.

    Args:
        base: Hugging Face folder of the model at ratio 0.
        trained: folder of the model at ratio 1; the same architecture.
        ratio: between 0 and 1.
        output: folder to write.

    Raises:
        UserError: the two models don't have the same tensors.
    """
    mixed: dict[str, torch.Tensor] = {}
    with (
        safe_open(base / "model.safetensors", "pt") as start,
        safe_open(trained / "model.safetensors", "pt") as end,
    ):
        differing = sorted(set(start.keys()) ^ set(end.keys()))
        for name in [] if differing else end.keys():
            first, last = start.get_tensor(name), end.get_tensor(name)
            if first.shape != last.shape:
                differing.append(name)
                break
            mixed[name] = torch.lerp(first.float(), last.float(), ratio).to(last.dtype)
        metadata = end.metadata()
    if differing:
        raise UserError(
            f"{base} and {trained} can't be interpolated: they differ in the tensor {differing[0]!r}; both "
            "must be the same architecture, one continued from the other"
        )
    with atomic(output) as folder:
        folder.mkdir()
        shutil.copyfile(trained / "config.json", folder / "config.json")
        copy_companions(trained, folder)
        save_file(mixed, folder / "model.safetensors", metadata)
