"""Learning-rate schedules as pure functions of the step."""

import math


def cosine(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warmup to `peak`, then half a cosine to zero (Loshchilov and Hutter 2017, eq. 5).

    Args:
        step: 0-based index of the optimizer step, below `steps`.
        steps: of the whole run.
        warmup_steps: the first step has rate peak / warmup_steps, step `warmup_steps` the peak.
        peak: the configured learning rate.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
