"""The section of the config about the domain's own exam (docs/exam.md)."""

import math
from typing import Annotated

from pydantic import Field

from cpt.config_sections import Section
from cpt.config_values import ADDRESS, Count, Positive

Z_95, Z_POWER = 1.959963984540054, 0.8416212335729143  # quantiles: 5 % (two-sided), and 80 % power
DIFFERENCE, DISCORDANT = 0.05, 0.2  # of accuracy, and the share of items on which two models differ


def items_needed(difference: float, discordant: float) -> int:
    """Returns how many items McNemar's test at 5 % (two-sided) needs to find a difference with 80 % power.

    Connor's sample size for paired shares (1987, Biometrics 43, page 209):
    n = (z_0.975 sqrt(q) + z_0.8 sqrt(q - d^2))^2 / d^2.

    Args:
        difference: d, the difference between the two models' shares of right answers.
        discordant: q, the share of items that only one of the models answers right; at least d.
    """
    root = Z_95 * math.sqrt(discordant) + Z_POWER * math.sqrt(discordant - difference**2)
    return math.ceil((root / difference) ** 2)


class Writer(Section):
    """A language model that writes the exam's questions: an endpoint with OpenAI's chat interface."""

    endpoint: str = Field(
        pattern=ADDRESS, description="address before /chat/completions, such as http://localhost:8000/v1"
    )
    model: str = Field(min_length=1, description="the endpoint's name of the model")
    timeout: Positive = Field(120, description="seconds that one answer may take")
    attempts: Positive = Field(5, description="tries of one request before the job stops")


class Exam(Section):
    """An exam on a corpus, made from its held-out documents (docs/exam.md)."""

    corpus: str | None = Field(None, description="whose held-out documents it asks about; null: `domain`")
    items: Annotated[Count, Field(gt=0)] | None = Field(
        None, description="questions; null: up to 626, with which a change of 5 points of accuracy is found"
    )
    writer: Writer | None = Field(
        None, description="a language model that writes the questions; null: made without one"
    )

    @property
    def wanted(self) -> int:
        """The number of items to make."""
        return self.items or items_needed(DIFFERENCE, DISCORDANT)
