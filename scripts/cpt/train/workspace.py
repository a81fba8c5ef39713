"""Memory that is used again instead of being asked for.

What the system gives anew costs a page fault per 4 KB, and pieces of many sizes leave gaps that add to the
peak.
"""

import math

import torch


class Workspace:
    """Tensors on the CPU by name, which hold what a caller puts there until it takes the name again."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self._dtype = dtype
        self._flat: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """A contiguous tensor of this shape with undefined contents, in the memory of that name."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size:
            flat = self._flat[name] = torch.empty(size, dtype=self._dtype)
        return flat[:size].view(shape)
