"""AdamW, its state by parameter name, and the memory that tensors take: what the engines share."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cpt.train.checkpoints import TensorsByName
from cpt.train.moments import PackedAdamW, adamw_state, moments_of

BytesByDevice = dict[str, int]


def parameter_groups(model: nn.Module, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Groups in which only matrices decay, not vectors (norms, biases), as in the Hugging Face Trainer.

    With `decay_embeddings: false`, embeddings don't decay either, nor does an output layer that shares their
    matrix: decay makes them short, and the gradients of the first layers large (OLMo et al. 2025, arXiv
    2501.00656, section 3; SmolLM3, Bakouch et al. 2025).
    """
    parameters, spared = list(model.parameters()), set()
    if not settings.get("decay_embeddings", True):
        spared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed = [p.ndim >= 2 and id(p) not in spared for p in parameters]
    return [
        {
            "params": [p for p, mine in zip(parameters, decayed, strict=True) if mine is decays],
            "weight_decay": settings["weight_decay"] if decays else 0.0,
        }
        for decays in (True, False)
    ]


def make_adamw(model: nn.Module, settings: dict[str, Any]) -> torch.optim.AdamW:
    """PyTorch's fused AdamW over the model's parameters, with moments in the form that `moments` names."""
    groups = parameter_groups(model, settings)
    options = {
        "lr": settings["learning_rate"],
        "betas": (settings["beta1"], settings["beta2"]),
        "eps": settings["epsilon"],
    }
    if settings["moments"] == "float32":
        return torch.optim.AdamW(groups, fused=True, **options)
    return PackedAdamW(groups, settings["moments"], settings["seed"], **options)


def unsharded_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, form: str
) -> tuple[TensorsByName, TensorsByName]:
    """(weights, moments) of a model whose parameters are whole on every process; see Engine.state."""
    weights, moments = {}, {}
    for name, parameter in model.named_parameters():
        weights[name] = parameter.detach().to("cpu", torch.float32, copy=True)
        state = optimizer.state[parameter] or adamw_state(0, parameter.detach(), form)
        moments |= {f"{key}.{name}": moment.to("cpu", copy=True) for key, moment in moments_of(state).items()}
    return weights, moments


def load_unsharded_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    weights: TensorsByName,
    moments: TensorsByName,
    steps_done: int,
    form: str,
) -> None:
    """The reverse of `unsharded_state`, on every process."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            state = optimizer.state[parameter] = adamw_state(steps_done, parameter.detach(), form)
            for key, moment in moments_of(state).items():
                moment.copy_(moments[f"{key}.{name}"])


def bytes_by_device(tensors: Iterable[torch.Tensor]) -> BytesByDevice:
    """Bytes of the memory behind tensors, by kind of device; memory that several share counts once."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[tensor.device.type, storage.data_ptr()] = storage.nbytes()
    totals: BytesByDevice = {}
    for (device, _), size in storages.items():
        totals[device] = totals.get(device, 0) + size
    return totals
