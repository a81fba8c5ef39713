"""The fastest settings of `train` that fit on a GPU of a given size, by the formulas of cpt.train.costs.

This project measured none of it on a GPU (docs/gpu.md).
"""

from typing import NamedTuple

from cpt.sizes import MOMENTS_BYTES_PER_PARAMETER, micro_batches
from cpt.train.costs import Shape, state_bytes, step_bytes

# Memory of common GPUs, such as RTX 3070, 4070, 4080 and 4090, A100, L40S, H100 and H200.
GPU_GIGABYTES = (8, 12, 16, 24, 40, 48, 80, 141)
FILLED = 0.85  # share of a GPU's memory; CUDA itself, communication buffers and fragments need the rest
BOTH = ["optimizer", "parameters"]
# The least communication first: engine, zero_stage, offload, gradient checkpointing, moments. Shorter moments
# change the losses a little, so they come only before float32 moments that are offloaded.
IN_ORDER: list[tuple[str, int, list[str], bool, str]] = [
    *(
        (engine, 0, [], checkpointing, moments)
        for moments in MOMENTS_BYTES_PER_PARAMETER
        for engine in ("ddp", "fsdp")
        for checkpointing in (False, True)
    ),
    ("deepspeed", 3, BOTH, True, "float32"),
]


class Setting(NamedTuple):
    """Settings of training, and the bytes that one process then holds."""

    engine: str
    zero_stage: int
    offload: list[str]
    checkpointing: bool
    moments: str
    micro_batch: int
    gpu_bytes: float
    cpu_bytes: float

    def keys(self, global_batch: int) -> str:
        """The keys of `train` as YAML on one line, with the sequences per step over all processes."""
        values = {"engine": self.engine, "zero_stage": self.zero_stage}
        values |= {"offload": f"[{', '.join(self.offload)}]"}
        values |= {"gradient_checkpointing": str(self.checkpointing).lower()}
        values |= {"micro_batch": self.micro_batch, "global_batch": global_batch}
        if self.engine != "deepspeed":
            del values["zero_stage"]
        if self.moments != "float32":
            values["moments"] = self.moments
        return f"{{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"


def recommended(
    shape: Shape, memory: float, share: int, sequence_length: int, processes: int, precision: str
) -> Setting | None:
    """The first setting IN_ORDER, with its largest micro-batch, that fills at most FILLED of a GPU's memory.

    Args:
        shape: of the model.
        memory: of each GPU, in bytes.
        share: sequences per process and step.
        sequence_length: in tokens.
        processes: training processes, one per GPU.
        precision: `bf16`, `auto` (the same on these GPUs) or `float32`.

    Returns None if not even one sequence fits.
    """
    for engine, stage, offload, checkpointing, moments in IN_ORDER:
        state = state_bytes(shape, engine, stage, offload, processes, precision, moments)
        for size in micro_batches(share):
            step = step_bytes(shape, size, sequence_length, checkpointing, precision, gpu=True)
            total = state["gpu"] + sum(step.values())
            if total <= FILLED * memory:
                return Setting(engine, stage, offload, checkpointing, moments, size, total, state["cpu"])
    return None
