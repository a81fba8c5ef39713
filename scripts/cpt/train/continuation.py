"""What a run saves for later runs: AdamW's moments beside its model, and intermediate states."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from cpt.errors import UserError
from cpt.files import atomic
from cpt.train import checkpoints
from cpt.train.checkpoints import TensorsByName
from cpt.train.moments import converted
from cpt.train.results import save_model

OPTIMIZER = Path("training_state") / "optimizer.safetensors"  # in the model's folder


def save_optimizer(model_folder: Path, moments: TensorsByName, updates: int) -> None:
    """Write the moments (see Engine.state) and the number of updates that they come from."""
    with atomic(model_folder / OPTIMIZER) as path:
        save_file(moments, path, {"updates": str(updates)})


def load_optimizer(model_folder: Path, form: str) -> tuple[TensorsByName, int]:
    """Read (moments, updates) as `save_optimizer` wrote them; convert moments to `form` (train.moments).

    Raises UserError if the file is missing.
    """
    path = model_folder / OPTIMIZER
    if not path.is_file():
        raise UserError(
            f"{path}: not there, but the run continues this model; train it again with --keep-optimizer"
        )
    with safe_open(path, "pt") as file:
        moments = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return converted(moments, form), int(file.metadata()["updates"])


def point_folder(model_folder: Path, point: int) -> Path:
    """The model folder (with moments) of a run's state after `point` tokens; 0: the run's end."""
    return model_folder / "training_state" / f"at-{point}" if point else model_folder


def save_points(plan: dict[str, Any], checkpoint_root: Path, start_folder: Path, model_folder: Path) -> None:
    """Save the states that a plan keeps into the trained model's folder, from their checkpoints."""
    for tokens, step in plan.get("kept", {}).items():
        state, weights, moments = checkpoints.load(checkpoints.checkpoint_folder(checkpoint_root, step))
        folder = point_folder(model_folder, int(tokens))
        save_model(weights, start_folder, folder)
        save_optimizer(folder, moments, state["updates"])
