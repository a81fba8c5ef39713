"""What a run that continues another needs, beyond the model's weights: AdamW's moments."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from cpt.errors import UserError
from cpt.files import atomic
from cpt.train.checkpoints import TensorsByName
from cpt.train.moments import in_form

OPTIMIZER = Path("training_state") / "optimizer.safetensors"  # in the model's folder


def save_optimizer(model_folder: Path, moments: TensorsByName, updates: int) -> None:
    """Write the moments (see Engine.state) and the number of updates that they come from."""
    with atomic(model_folder / OPTIMIZER) as path:
        save_file(moments, path, {"updates": str(updates)})


def load_optimizer(model_folder: Path, form: str) -> tuple[TensorsByName, int]:
    """Read (moments, updates) as `save_optimizer` wrote them, in a form of `train.moments`.

    Raises UserError if they aren't there.
    """
    path = model_folder / OPTIMIZER
    if not path.is_file():
        raise UserError(
            f"{path}: not there, but the run continues this model; train it again with --keep-optimizer"
        )
    with safe_open(path, "pt") as file:
        moments = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return in_form(moments, form), int(file.metadata()["updates"])
