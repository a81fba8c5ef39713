"""The `fsdp` engine: PyTorch's fully sharded data parallelism (FSDP2), for models too large for one device.

Weights, gradients and optimizer state are split over the processes; a layer is whole only while it is
computed (Zhao et al. 2023; ZeRO stage 3 of Rajbhandari et al. 2020). Needs nothing but PyTorch.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from cpt.train.checkpoints import TensorsByName
from cpt.train.compiled_layers import compile_layers, compiles, join_products
from cpt.train.losses import LossModel
from cpt.train.moments import adamw_state, moments_of
from cpt.train.optimizer import BytesByDevice, bytes_by_device, make_adamw
from cpt.train.pull import Pull
from cpt.train.softmax import chosen_softmax


class FsdpEngine:
    """See Engine. With bf16, layers compute with bfloat16 copies of float32 shards, and gradients are
    reduced in float32. With offload, the shards of weights, gradients and moments live on the CPU, where
    the optimizer runs too."""

    def __init__(self, model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int):
        self.model = model
        self.device = device
        self.world_size = world_size
        self.clip = settings["gradient_clip"]
        self.form = settings["moments"]
        if compiles(settings, device):
            join_products(model)
            compile_layers(model)
        self.loss_model = LossModel(
            model, settings["gradient_checkpointing"], chosen_softmax(settings, device)
        )
        policies = {
            "mesh": init_device_mesh(device.type, (world_size,)),
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=torch.bfloat16 if settings["precision"] == "bf16" else None,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,  # a target's weight stays float32
            ),
            "offload_policy": (
                CPUOffloadPolicy(pin_memory=device.type == "cuda") if settings["offload"] else OffloadPolicy()
            ),
        }
        # Each shard moves to the device when it is made, so the whole model is never there.
        for layer in [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]:
            fully_shard(layer, **policies)
        fully_shard(self.loss_model, **policies)  # the rest in one group, which tied weights have to share
        self.optimizer = make_adamw(model, settings)
        self.pull: Pull | None = None

    def loss(self, *inputs: torch.Tensor | None, last: bool = True) -> torch.Tensor:
        loss = self.loss_model(*inputs)
        if not torch.is_grad_enabled():  # no backward pass follows to split the root's weights again
            self.loss_model.reshard()
        return loss

    def backward(self, loss: torch.Tensor) -> None:
        # Gradients are reduced at every micro-batch: whole until the last one, they would take as much memory
        # as a model. FSDP averages over the processes, but the global batch needs the sum.
        (loss * self.world_size).backward()

    def step(self, learning_rate: float) -> float:
        parameters = list(self.model.parameters())
        shards = [None if p.grad is None else p.grad.to_local() for p in parameters]
        if self.pull is not None:
            self.pull.add_to(shards, [p.to_local() for p in parameters])
        gradients = [gradient for gradient in shards if gradient is not None]
        square = nn.utils.get_total_norm(gradients).square().to(self.device)
        dist.all_reduce(square)
        norm = square.sqrt().item()
        # Like torch.nn.utils.clip_grad_norm_, which can't sum shards that are on a GPU machine's CPU.
        for gradient in gradients:
            gradient.mul_(min(1.0, self.clip / (norm + 1e-6)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _whole(self, shard: DTensor) -> torch.Tensor:
        """Gather a whole tensor through the device onto the CPU; a collective operation."""
        device_shard = DTensor.from_local(
            shard.to_local().detach().to(self.device),
            shard.device_mesh,
            shard.placements,
            shape=shard.shape,
            stride=shard.stride(),
        )
        return device_shard.full_tensor().to("cpu", copy=True)

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        weights, moments = {}, {}
        first = dist.get_rank() == 0
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state[parameter] or adamw_state(0, parameter.detach(), self.form)
            weight = self._whole(parameter)
            parameter_moments = {
                f"{key}.{name}": self._whole(shard) for key, shard in moments_of(state).items()
            }
            if first:
                weights[name] = weight
                moments |= parameter_moments
        return weights, moments

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        def fill(shard: DTensor, whole: torch.Tensor) -> None:
            shard.to_local().copy_(_part_of(whole, shard))

        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                fill(parameter, weights[name])
                state = adamw_state(steps_done, parameter.detach(), self.form)
                self.optimizer.state[parameter] = state
                for key, shard in moments_of(state).items():
                    fill(shard, moments[f"{key}.{name}"])

    def pull_to(self, start: TensorsByName, coefficient: float) -> None:
        named = self.model.named_parameters()
        parts = [_part_of(start[name], p).to(p.to_local().device, copy=True) for name, p in named]
        self.pull = Pull(coefficient, parts)

    def held_bytes(self) -> dict[str, BytesByDevice]:
        parameters = list(self.model.parameters())
        states = [self.optimizer.state[p] for p in parameters if p in self.optimizer.state]
        shards = {
            "weights": parameters,
            "gradients": [p.grad for p in parameters if p.grad is not None],
            "optimizer": [moment for state in states for moment in moments_of(state).values()],
        }
        bytes_by_part = {
            part: bytes_by_device(s.to_local() for s in tensors) for part, tensors in shards.items()
        }
        return bytes_by_part | ({"start": self.pull.held_bytes()} if self.pull else {})


def _part_of(whole: torch.Tensor, shard: DTensor) -> torch.Tensor:
    """This process's shard of `whole`, a tensor that is the same on all processes."""
    return distribute_tensor(whole, shard.device_mesh, shard.placements, src_data_rank=None).to_local()
