"""L2 penalty on the distance from the weights that a run starts from (L2-SP: Li et al. 2018).

The penalty is coefficient / 2 * |weights - start|^2 over all parameters; its gradient, coefficient *
(weights - start), is added to that of the loss once per step, before the norm is taken and clipped.
"""

from collections.abc import Iterable

import torch

from cpt.train.optimizer import BytesByDevice, bytes_by_device


class Pull:
    """The start weights (float32) of the part of the model that a process updates.

    They take 4 bytes per parameter, on the device where the optimizer runs; an engine that splits the
    optimizer over its processes splits them too.
    """

    def __init__(self, coefficient: float, start: list[torch.Tensor]):
        self.coefficient, self.start = coefficient, start

    @torch.no_grad()
    def add_to(self, gradients: Iterable[torch.Tensor | None], weights: Iterable[torch.Tensor]) -> None:
        """Add the penalty's gradient to those of the loss; both arguments are in the start weights' order."""
        for gradient, weight, start in zip(gradients, weights, self.start, strict=True):
            if gradient is not None:
                gradient.add_(weight - start, alpha=self.coefficient)

    @torch.no_grad()
    def added_to_part(
        self, gradient: torch.Tensor, begin: int, weights: torch.Tensor, number: int
    ) -> torch.Tensor:
        """A copy of a parameter's whole gradient with the penalty's added in the part from `begin` on.

        `weights` (flat, float32) are that part of the parameter, and start[number] are its start weights.
        Each process adds it on the part that it updates, so the sum over the processes has it everywhere.
        """
        pulled = gradient.clone()
        part = pulled.view(-1)[begin : begin + len(weights)]
        part += (self.coefficient * (weights - self.start[number])).to(part.device, part.dtype)
        return pulled

    def held_bytes(self) -> BytesByDevice:
        """Bytes of the start weights on this process."""
        return bytes_by_device(self.start)
