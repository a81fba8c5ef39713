"""The one interface behind which a model is trained, and the choice of its engine.

An engine takes the summed loss of a micro-batch divided by the global batch's number of targets, so that
gradients add up to the gradient of the mean over the global batch, however it is split. Every engine
gives and takes the same state: float32 weights and AdamW moments by parameter name, tied weights once; `ddp`
and `fsdp` can keep the moments in a shorter form (cpt.train.moments), which the state then has.
So any engine continues from any other's checkpoint, on any number of processes.
"""

from typing import Any, Protocol

import torch
from torch import nn

from cpt.train.attention import choose_attention
from cpt.train.checkpoints import TensorsByName
from cpt.train.optimizer import BytesByDevice


class Engine(Protocol):
    """What the training loop asks of an engine."""

    def loss(self, *inputs: torch.Tensor | None, last: bool = True) -> torch.Tensor:
        """Forward pass of a micro-batch: what LossModel.forward takes, and its float32 scalar.

        `last` marks the step's last micro-batch, whose backward pass may exchange the gradients of all.
        """

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, of the last forward pass."""

    def step(self, learning_rate: float) -> float:
        """Clip, update, reset the gradients; return the global L2 norm of the gradient before clipping.

        Where the norm isn't finite, nothing is updated: weights, moments and AdamW's count stay.
        """

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        """(weights, moments): whole copies on the CPU; a collective operation. Empty but on rank 0.

        Weights are float32, keyed by parameter name; moments, as they are stored, by `exp_avg.NAME` and
        `exp_avg_sq.NAME`, and their scales, if they have any, by `exp_avg_scales.NAME` and so on.
        """

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        """Continue from a state; the model that the engine was made with holds its weights already.

        `steps_done` counts the updates made.
        """

    def pull_to(self, start: TensorsByName, coefficient: float) -> None:
        """Penalize the distance from `start`, whole weights by parameter name (cpt.train.pull).

        The engine copies what it needs of them. The norm that `step` returns and clips includes the penalty.
        """

    def held_bytes(self) -> dict[str, BytesByDevice]:
        """What this process holds between backward and step: bytes by part and kind of device.

        The parts are `weights` (in the precision computed with), `gradients` (with the buffers they are
        reduced in), and `optimizer` (moments, and float32 weights where they are kept apart); with `pull_to`
        also `start`.
        """


def make_engine(model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int) -> Engine:
    """The engine that `settings` name, over a model on the CPU with float32 weights.

    Only its own module is imported, so that each engine needs its own packages alone.

    Args:
        model: a transformers causal language model; the engine takes it over.
        settings: a plan's `learning` and `execution` settings; on a GPU, `attention` is added to them.
        device: of this process.
        world_size: number of processes; all but `ddp` need a process group, even of one.

    Raises:
        UserError: the machine lacks what the engine needs.
    """
    choose_attention(model, settings, device)
    if settings["engine"] == "ddp":
        from cpt.train.plain_engine import PlainEngine

        return PlainEngine(model, settings, device, world_size)
    if settings["engine"] == "fsdp":
        from cpt.train.fsdp_engine import FsdpEngine

        return FsdpEngine(model, settings, device, world_size)
    from cpt.train.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(model, settings, device, world_size)
