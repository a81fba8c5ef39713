"""AdamW, its state by parameter name, and the memory that tensors take: what the engines share."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cpt.train.checkpoints import TensorsByName

MOMENTS = ("exp_avg", "exp_avg_sq")
BytesByDevice = dict[str, int]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: vectors (norms, biases) aren't decayed, as in the Hugging Face Trainer."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_adamw(model: nn.Module, settings: dict[str, Any]) -> torch.optim.AdamW:
    """PyTorch's AdamW over the model's parameters, one kernel per group and device."""
    return torch.optim.AdamW(
        parameter_groups(model, settings["weight_decay"]),
        lr=settings["learning_rate"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        fused=True,
    )


def adamw_state(step: int, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """AdamW's state of the parameter or shard `like` after `step` steps, its moments still zero."""
    counter = torch.tensor(float(step), device=like.device)
    return {"step": counter, **{key: torch.zeros_like(like) for key in MOMENTS}}


def unsharded_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[TensorsByName, TensorsByName]:
    """(weights, moments) of a model whose parameters are whole on every process; see Engine.state."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to("cpu", torch.float32, copy=True)

    weights, moments = {}, {}
    for name, parameter in model.named_parameters():
        weights[name] = copy(parameter)
        state = optimizer.state[parameter] or adamw_state(0, parameter)
        moments |= {f"{key}.{name}": copy(state[key]) for key in MOMENTS}
    return weights, moments


def load_unsharded_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: TensorsByName,
    moments: TensorsByName,
    steps_done: int,
) -> None:
    """The reverse of `unsharded_state`, on every process."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = adamw_state(steps_done, parameter.detach())
            for key in MOMENTS:
                optimizer.state[parameter][key].copy_(moments[f"{key}.{name}"])


def bytes_by_device(tensors: Iterable[torch.Tensor]) -> BytesByDevice:
    """Bytes of the memory behind some tensors by kind of device, memory that several share counted once."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[tensor.device.type, storage.data_ptr()] = storage.nbytes()
    found: BytesByDevice = {}
    for (device, _), size in storages.items():
        found[device] = found.get(device, 0) + size
    return found
