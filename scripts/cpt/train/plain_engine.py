"""The `ddp` engine: plain data-parallel PyTorch with the whole model on every process. The fast path."""

import math
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cpt.train.checkpoints import TensorsByName
from cpt.train.compiled_layers import (
    compile_layers,
    compiles,
    join_products,
    keep_residual_in_bfloat16,
)
from cpt.train.cpu_layers import use_cpu_layers
from cpt.train.losses import LossModel, add_up_tied_gradients
from cpt.train.moments import moments_of
from cpt.train.optimizer import (
    BytesByDevice,
    bytes_by_device,
    load_unsharded_state,
    make_adamw,
    unsharded_state,
)
from cpt.train.pull import Pull
from cpt.train.softmax import chosen_softmax


class PlainEngine:
    """See Engine. Autocast to bfloat16 over float32 weights."""

    def __init__(self, model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int):
        self.model = model.to(device)
        self.world_size = world_size
        self.clip = settings["gradient_clip"]
        self.form = settings["moments"]
        self.autocast = settings["precision"] == "bf16"
        self.device = device
        compiled = compiles(settings, device)
        if compiled:
            join_products(self.model)
            if self.autocast:
                keep_residual_in_bfloat16(self.model)
            compile_layers(self.model)
        save_memory = settings["gradient_checkpointing"]
        own_layers = self.autocast and device.type == "cpu" and not compiled and use_cpu_layers(self.model)
        if own_layers:
            save_memory = save_memory is True  # they keep what `selective` does
        self.loss_model: nn.Module = LossModel(self.model, save_memory, chosen_softmax(settings, device))
        if own_layers:
            add_up_tied_gradients(self.loss_model)
        if world_size > 1:
            self.loss_model = DistributedDataParallel(self.loss_model, gradient_as_bucket_view=True)
        self.optimizer = make_adamw(self.model, settings)
        self.pull: Pull | None = None

    def loss(self, *inputs: torch.Tensor | None, last: bool = True) -> torch.Tensor:
        # DDP decides in the forward pass whether the backward pass after it exchanges gradients.
        alone = self.world_size > 1 and not last
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        with self.loss_model.no_sync() if alone else nullcontext(), autocast:
            return self.loss_model(*inputs)

    def backward(self, loss: torch.Tensor) -> None:
        # DDP averages gradients over the processes, but the global batch needs their sum.
        (loss * self.world_size).backward()

    def step(self, learning_rate: float) -> float:
        if self.pull is not None:
            self.pull.add_to((p.grad for p in self.model.parameters()), self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def trial(self, *inputs: torch.Tensor | None) -> None:
        """Run a forward and backward pass only for its memory; keeps no gradient and waits for no process."""
        alone = self.loss_model.module if self.world_size > 1 else self.loss_model
        # Compiled, each size would need its own compilation. Uncompiled, they take somewhat more memory.
        eager = torch.compiler.set_stance("force_eager")
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        with eager, autocast:
            loss = alone(*inputs)
        torch.autograd.grad(loss.sum(), list(self.model.parameters()), allow_unused=True)

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        if self.world_size > 1 and dist.get_rank() != 0:
            return {}, {}
        return unsharded_state(self.model, self.optimizer, self.form)

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        load_unsharded_state(self.model, self.optimizer, weights, moments, steps_done, self.form)

    def pull_to(self, start: TensorsByName, coefficient: float) -> None:
        named = self.model.named_parameters()
        self.pull = Pull(coefficient, [start[name].to(p.device, copy=True) for name, p in named])

    def held_bytes(self) -> dict[str, BytesByDevice]:
        parameters = list(self.model.parameters())
        states = [self.optimizer.state[p] for p in parameters if p in self.optimizer.state]
        return {
            "weights": bytes_by_device(parameters),
            "gradients": bytes_by_device(p.grad for p in parameters if p.grad is not None),
            "optimizer": bytes_by_device(moment for state in states for moment in moments_of(state).values()),
            **({"start": self.pull.held_bytes()} if self.pull else {}),
        }
