"""Learning-rate schedules as pure functions of the step, so that resuming needs no scheduler state."""

import math
from typing import Any


def learning_rate(step: int, plan: dict[str, Any]) -> float:
    """The learning rate of a step.

    Every schedule starts with a linear warmup: step 0 has peak / warmup_steps, step `warmup_steps` the peak.

    cosine: then half a cosine from the peak to the minimum (Loshchilov and Hutter 2017, eq. 5). With it, a
    run that starts from another run's model re-warms and re-decays (Gupta et al. 2023; Ibrahim et al. 2024).

    linear: then a straight line from the peak to the minimum. Down to 0 it is better than a cosine down to a
    tenth for models that see many tokens (Bergsma et al. 2025, arXiv 2502.15938). OLMo 2 ends its training
    with it (OLMo et al. 2025, arXiv 2501.00656, section 4).

    infinite (Ibrahim et al. 2024, section 3): then half a cosine from the peak to the constant rate
    (cooldown), the constant rate, and at the end an exponential decay from it to the minimum (annealing),
    constant * (minimum / constant) ** progress.

    warmup_stable_decay (Hu et al. 2024): then the peak, and at the end a decay to the minimum by 1 - the
    square root of its progress (Haegele et al. 2024, eq. 1).

    Args:
        step: 0-based index of the optimizer step, below plan["steps"].
        plan: `steps`, `warmup_steps`, `cooldown_steps`, `decay_steps` and the `learning` settings schedule,
            learning_rate (the peak), minimum_learning_rate and constant_learning_rate.

    Raises:
        KeyError: an unknown schedule.
    """
    settings = plan["learning"]
    peak, minimum = settings["learning_rate"], settings["minimum_learning_rate"]
    if step < plan["warmup_steps"]:
        return peak * (step + 1) / plan["warmup_steps"]
    after_warmup = step - plan["warmup_steps"]
    if settings["schedule"] == "cosine":
        return _half_cosine(after_warmup, plan["steps"] - plan["warmup_steps"], peak, minimum)
    if settings["schedule"] == "linear":
        return peak + (minimum - peak) * after_warmup / max(1, plan["steps"] - plan["warmup_steps"])
    decay_begins = plan["steps"] - plan["decay_steps"]
    # The last step is one short of the end, as in the half cosine, so the minimum itself is never reached.
    decayed = max(0, step - decay_begins) / max(1, plan["decay_steps"])
    if settings["schedule"] == "warmup_stable_decay":
        return minimum + (peak - minimum) * (1 - math.sqrt(decayed))
    if settings["schedule"] == "infinite":
        constant = settings["constant_learning_rate"]
        if after_warmup < plan["cooldown_steps"]:
            return _half_cosine(after_warmup, plan["cooldown_steps"], peak, constant)
        return constant * (minimum / constant) ** decayed if decayed else constant
    raise KeyError(settings["schedule"])


def _half_cosine(step: int, steps: int, begin: float, end: float) -> float:
    return end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))


def schedule_csv(plan: dict[str, Any]) -> str:
    """CSV with the learning rate of each step of a planned run, and the tokens trained on after it."""
    lines = ["step,tokens,learning_rate"]
    for step in range(plan["steps"]):
        sequences = min((step + 1) * plan["global_batch"], plan["sequences"])
        lines.append(f"{step + 1},{sequences * plan['sequence_length']},{learning_rate(step, plan):.6g}")
    return "\n".join(lines) + "\n"
