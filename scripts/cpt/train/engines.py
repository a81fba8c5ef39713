"""The interface that all training engines share, and the choice of an engine.

An engine takes the summed loss of a micro-batch divided by the global batch's number of targets, so that
gradients add up to the gradient of the mean over the global batch, however it is split. Every engine returns
and loads the same state: float32 weights and AdamW moments by parameter name, tied weights once. `ddp` and
`fsdp` can keep the moments in a shorter form (cpt.train.moments), which the state then has too. So any engine
can resume from any other's checkpoint, on any number of processes.
"""

from typing import Any, Protocol

import torch
from torch import nn

from cpt.train.attention import choose_attention
from cpt.train.checkpoints import TensorsByName
from cpt.train.optimizer import BytesByDevice


class Engine(Protocol):
    """What the training loop needs from an engine."""

    def loss(self, *inputs: torch.Tensor | None, last: bool = True) -> torch.Tensor:
        """Forward pass of a micro-batch; takes and returns what LossModel.forward does.

        `last` marks the step's last micro-batch, whose backward pass may exchange the whole step's gradients.
        """

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, which comes from the last forward pass."""

    def step(self, learning_rate: float) -> float:
        """Clip, update, reset the gradients; return the global L2 norm of the gradient before clipping.

        If the norm isn't finite, nothing is updated: weights, moments and AdamW's step count stay.
        """

    def state(self) -> tuple[TensorsByName, TensorsByName]:
        """Returns (weights, moments): whole copies on the CPU, empty but on rank 0; a collective operation.

        Weights are float32, keyed by parameter name. Moments are in their stored form, keyed by
        `exp_avg.NAME` and `exp_avg_sq.NAME`, and any scales by `exp_avg_scales.NAME` and so on.
        """

    def load(self, weights: TensorsByName, moments: TensorsByName, steps_done: int) -> None:
        """Resume from a state; the model that the engine was made with already holds its weights.

        `steps_done` counts the updates made.
        """

    def pull_to(self, start: TensorsByName, coefficient: float) -> None:
        """Penalize the distance from `start`, whole weights by parameter name (cpt.train.pull).

        The engine copies what it needs of them. The norm that `step` returns and clips includes the penalty.
        """

    def held_bytes(self) -> dict[str, BytesByDevice]:
        """Bytes that this process holds between backward and step, by part and kind of device.

        The parts are `weights` (in the precision of the computation), `gradients` (with the buffers in which
        they are reduced) and `optimizer` (moments, and float32 weights if they are separate); after `pull_to`
        also `start`.
        """


def make_engine(model: nn.Module, settings: dict[str, Any], device: torch.device, world_size: int) -> Engine:
    """Make the engine that `settings` name, from a model on the CPU with float32 weights.

    Imports only that engine's module, so that no other engine's packages are needed.

    Args:
        model: a transformers causal language model; the engine takes it over.
        settings: a plan's `learning` and `execution` settings; on a GPU, `attention` is added to them.
        device: of this process.
        world_size: number of processes; all engines but `ddp` need a process group, even of one process.

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
