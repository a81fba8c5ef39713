"""Steps whose loss or gradient isn't finite, and losses that jump."""

import logging
import math
import statistics
from collections import deque
from pathlib import Path

from cpt.errors import UserError

MOST_IN_A_ROW = 10  # skipped steps; after one more, skipping can't save the run
# A loss is a spike if it exceeds the mean of the SPIKE_STEPS losses before it by this many deviations.
# OLMo-core's SkipStepOptimizer skips steps by this rule. Here spikes are only reported.
SPIKE_DEVIATIONS, SPIKE_STEPS = 6.0, 128


class BadSteps:
    """Judges every step by its loss and gradient norm.

    Args:
        run: its name.
        skip: skip the update of a bad step, instead of stopping.
        writes_warnings: true on one process only.
    """

    def __init__(self, run: str, skip: bool, writes_warnings: bool):
        self.run, self.skip, self.writes_warnings = run, skip, writes_warnings
        self.in_a_row = 0
        self._losses: deque[float] = deque(maxlen=SPIKE_STEPS)

    def is_bad(self, step: int, rows: range, sequences: Path, loss: float, gradient_norm: float) -> bool:
        """Returns whether to skip the 1-based `step` on these rows of the folder `sequences`.

        `loss` (nats per token over the global batch) and `gradient_norm` (before clipping) are the same on
        all processes. The engine makes no update if the norm isn't finite.

        Raises UserError if the run has to stop.
        """
        where = f"step {step} (rows {rows.start} to {rows.stop - 1} of {sequences})"
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            self.in_a_row = 0
            self._warn_of_spike(where, loss)
            return False
        problem = f"runs.{self.run}: the loss is {loss} and the gradient norm {gradient_norm} at {where}"
        remedy = "lower train.learning_rate or check the model and these rows"
        self.in_a_row += 1
        if not self.skip:
            raise UserError(f"{problem}; {remedy}, or skip such steps with train.on_bad_step: skip")
        if math.isfinite(gradient_norm):
            raise UserError(f"{problem}, and the weights were updated by then; {remedy}")
        if self.in_a_row > MOST_IN_A_ROW:
            raise UserError(f"{problem}, after {MOST_IN_A_ROW} skipped steps in a row; {remedy}")
        if self.writes_warnings:
            logging.warning("%s; the step is skipped", problem)
        return True

    def _warn_of_spike(self, where: str, loss: float) -> None:
        if self.writes_warnings and len(self._losses) == SPIKE_STEPS:
            mean, deviation = statistics.fmean(self._losses), statistics.stdev(self._losses)
            if loss > mean + SPIKE_DEVIATIONS * deviation:
                logging.warning(
                    "loss spike: %.3f at %s, after %.3f +- %.3f over %d steps",
                    loss,
                    where,
                    mean,
                    deviation,
                    SPIKE_STEPS,
                )
        self._losses.append(loss)
