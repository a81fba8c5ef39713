"""Greedy choice of the models to average, by a loss."""

import logging
from collections.abc import Callable, Sequence


def greedy_choice(
    names: Sequence[str], loss_of: Callable[[list[str]], float]
) -> tuple[list[str], list[dict[str, object]]]:
    """Choose models for a mean in equal parts: the greedy soup (Wortsman et al. 2022, recipe 1).

    The best model comes first. Each other model, in the order of its own loss, is added if the mean with it
    has no higher loss than the mean without it.

    Args:
        names: of the models.
        loss_of: returns the loss of the mean of these models.

    Returns:
        (chosen, tried): the names in the order in which they were added; `models` and `loss` of each mean
        that was measured.
    """
    tried: list[dict[str, object]] = []

    def measured(models: list[str]) -> float:
        tried.append({"models": models, "loss": loss_of(models)})
        logging.info("%.6f: %s", tried[-1]["loss"], ", ".join(models))
        return tried[-1]["loss"]

    alone = {name: measured([name]) for name in names}
    first, *others = sorted(names, key=lambda name: alone[name])
    chosen, best = [first], alone[first]
    for name in others:
        if (loss := measured([*chosen, name])) <= best:
            chosen, best = [*chosen, name], loss
    return chosen, tried
