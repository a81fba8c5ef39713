"""Two engines behind one interface: plain PyTorch, and DeepSpeed (the paper's path).

Both take the summed loss of a micro-batch divided by the global batch's number of targets, so that
gradients add up to the gradient of the mean over the global batch, however it is split. Both give and
take the same state: float32 weights and AdamW moments by parameter name.
"""

import logging
import math
import os
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cpt.train.checkpoints import TensorsByName
from cpt.train.losses import LossModel

MOMENTS = ("exp_avg", "exp_avg_sq")


class Engine(Protocol):
    """What the training loop asks of an engine."""

    def loss(self, token_ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Forward pass of a micro-batch; see LossModel."""

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradient of `loss`; `last` marks the step's last micro-batch."""

    def step(self, learning_rate: float) -> float:
        """Clip, update, reset the gradients; return the global L2 norm of the gradient before clipping.

        Where the norm isn't finite, nothing is updated: weights, moments and AdamW's count stay.
        """

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        """(weights, moments): whole float32 copies on the CPU; a collective operation. Empty but on
        rank 0."""

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        """Continue from a state; `steps_done` counts the updates made."""


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: vectors (norms, biases) aren't decayed, as in the Hugging Face Trainer."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


class PlainEngine:
    """Data-parallel training with PyTorch alone; autocast to bfloat16 over float32 weights on a GPU."""

    def __init__(self, model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int):
        self.model = model.to(device)
        self.world_size = world_size
        self.clip = settings["gradient_clip"]
        self.autocast = settings["precision"] == "bf16"
        self.device = device
        self.loss_model: nn.Module = LossModel(self.model, settings["gradient_checkpointing"])
        if world_size > 1:
            self.loss_model = DistributedDataParallel(self.loss_model)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, settings["weight_decay"]),
            lr=settings["learning_rate"],
            betas=(settings["beta1"], settings["beta2"]),
            eps=settings["epsilon"],
            fused=True,
        )

    def loss(self, token_ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext():
            return self.loss_model(token_ids, weights)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        # DDP averages gradients over the processes where the global batch needs their sum.
        wait = self.world_size > 1 and not last
        with self.loss_model.no_sync() if wait else nullcontext():
            (loss * self.world_size).backward()

    def step(self, learning_rate: float) -> float:
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def trial(self, token_ids: torch.Tensor, weights: torch.Tensor) -> None:
        """Forward and backward pass for its memory alone: it keeps no gradient and waits for no process."""
        alone = self.loss_model.module if self.world_size > 1 else self.loss_model
        with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext():
            loss = alone(token_ids, weights)
        torch.autograd.grad(loss, list(self.model.parameters()), allow_unused=True)

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        if os.environ.get("RANK", "0") != "0":
            return {}, {}
        weights = {
            name: p.detach().to("cpu", torch.float32, copy=True) for name, p in self.model.named_parameters()
        }
        moments = {
            f"{key}.{name}": self.optimizer.state[p][key].to("cpu", copy=True)
            for name, p in self.model.named_parameters()
            for key in MOMENTS
            if p in self.optimizer.state
        }
        return weights, moments

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        for name, parameter in self.model.named_parameters():
            with torch.no_grad():
                parameter.copy_(weights[name])
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(steps_done), device=self.device),
                **{key: moments[f"{key}.{name}"].to(self.device) for key in MOMENTS},
            }


class DeepSpeedEngine:
    """DeepSpeed ZeRO with CPU offload: the paper's path (section 3.3).

    On a CPU, torch's AdamW replaces DeepSpeed's compiled one, which computes the same to rounding.
    """

    def __init__(self, model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int):
        if device.type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed

        if device.type == "cpu":  # an optional communication kernel that would be compiled at every start
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.logger.setLevel(logging.WARNING)
        self.model = model.to(device)
        self.device = device
        self.world_size = world_size
        self.stage = settings["zero_stage"]
        loss_model = LossModel(self.model, settings["gradient_checkpointing"])
        zero: dict[str, Any] = {"stage": self.stage}
        for part, key in (("optimizer", "offload_optimizer"), ("parameters", "offload_param")):
            if part in settings["offload"] and (self.stage == 3 or (part == "optimizer" and self.stage > 0)):
                zero[key] = {"device": "cpu", "pin_memory": device.type == "cuda"}
        self.engine, *_ = deepspeed.initialize(
            model=loss_model,
            model_parameters=parameter_groups(self.model, settings["weight_decay"]),
            config={
                "train_micro_batch_size_per_gpu": settings["micro_batch"],
                "gradient_accumulation_steps": 1,  # the loop decides, by last=True
                "gradient_clipping": settings["gradient_clip"],
                "zero_optimization": zero,
                "zero_allow_untested_optimizer": True,
                "bf16": {"enabled": settings["precision"] == "bf16"},
                "optimizer": {
                    "type": "AdamW",
                    "params": {
                        "lr": settings["learning_rate"],
                        "betas": [settings["beta1"], settings["beta2"]],
                        "eps": settings["epsilon"],
                        "torch_adam": device.type == "cpu",
                    },
                },
            },
        )

    def loss(self, token_ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.engine(token_ids, weights)

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        # DeepSpeed averages over the processes as well.
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        # Where a gradient isn't finite, it skips the update by itself and tells an infinite norm.
        return float(self.engine.get_global_grad_norm())

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        weights, moments = {}, {}
        first = dist.get_rank() == 0
        for name, parameter in self.model.named_parameters():
            found = {f"{key}.{name}": safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            weight = safe_get_full_fp32_param(parameter)
            if first:
                weights[name] = weight.detach().float().cpu().reshape(parameter_shape(parameter)).clone()
                moments |= {
                    key: value.float().cpu().reshape(weights[name].shape).clone()
                    for key, value in found.items()
                }
        return weights, moments

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        from deepspeed.utils import (
            safe_get_local_fp32_param,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        inner = self.engine.optimizer.optimizer
        for flat in self.engine.optimizer.fp32_partitioned_groups_flat:
            inner.state[flat] = {
                "step": torch.tensor(float(steps_done)),
                **{key: torch.zeros_like(flat) for key in MOMENTS},
            }
        rank = dist.get_rank()
        for name, parameter in self.model.named_parameters():
            size = safe_get_local_fp32_param(parameter).numel()

            def local(tensor: torch.Tensor, size: int = size) -> torch.Tensor:
                padded = torch.zeros(size * self.world_size)
                padded[: tensor.numel()] = tensor.flatten()
                return padded[rank * size : (rank + 1) * size]

            safe_set_local_fp32_param(parameter, local(weights[name]))
            for key in MOMENTS:
                safe_set_local_optimizer_state(parameter, local(moments[f"{key}.{name}"]), key)


def parameter_shape(parameter: torch.Tensor) -> torch.Size:
    """The whole shape, also of a parameter that ZeRO-3 has partitioned."""
    return getattr(parameter, "ds_shape", parameter.shape)


ENGINES: dict[str, type[PlainEngine] | type[DeepSpeedEngine]] = {
    "ddp": PlainEngine,
    "deepspeed": DeepSpeedEngine,
}
