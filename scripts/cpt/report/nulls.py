"""What can be scored without reading the question."""

from typing import NamedTuple

import numpy as np

from cpt.report.letters import letter
from cpt.report.samples import Answers, count
from cpt.report.scores import ALWAYS
from cpt.report.statistics import SIGNIFICANT, binomial_p, mcnemar_p, pooled


class Null(NamedTuple):
    """The best that a task gives to whoever doesn't read the questions, beside one run's score.

    Attributes:
        name: `chance`, `longest`, or `always_B` and the like.
        score: its share of right answers.
        test: of the run against it: `mcnemar` (exact, on the same items), or for chance, which has no
            answers of its own, `binomial` (exact).
        p: two-sided.
        above: the run's score is higher, and p is below 0.05.
    """

    name: str
    score: float
    test: str
    p: float
    above: bool


def null_answers(answers: Answers) -> dict[str, np.ndarray]:
    """Bool [items] by null: what always answering one letter, or the longest choice, gets right.

    An item without such a letter counts as wrong. `longest` is absent where all choices are equally long
    (MMLU's are letters, and WinoGrande's two sentences end alike).
    """
    found = {f"{ALWAYS}{letter(number)}": answers.gold == number for number in range(answers.choices.max())}
    if answers.longest is not None:
        found["longest"] = answers.gold == answers.longest
    return found


def chance_of(answers: Answers) -> float:
    """Expected score of a uniform guess: the mean of 1 / number of choices."""
    return float((1 / answers.choices).mean())


def null_scores(answers: Answers) -> dict[str, float]:
    """`chance`, `always_A` ..., `majority` (the best of these), and if there is one `longest`."""
    scores = {name: float(right.mean()) for name, right in null_answers(answers).items()}
    majority = max(score for name, score in scores.items() if name.startswith(ALWAYS))
    return {"chance": chance_of(answers), "majority": majority, **scores}


def strongest_null(answers: Answers, metric: str) -> Null:
    """The null with the highest score, and the test of a run's answers against it.

    Which letter is the best to answer always is only known from the gold answers, so this null is a bit
    stronger than a fair one; if a score differs significantly from it, it differs from all of them.
    """
    right = answers.right[metric]
    score, n = float(right.mean()), len(right)
    rivals = null_answers(answers)
    best = max(rivals, key=lambda name: float(rivals[name].mean()))
    best_score, chance = float(rivals[best].mean()), chance_of(answers)
    if best_score < chance:  # items with another number of choices make this binomial test a bit too careful
        p = binomial_p(int(right.sum()), n, chance)
        return Null("chance", chance, "binomial", p, score > chance and p < SIGNIFICANT)
    pairs = pooled(count(rivals[best], right, np.zeros(n, int)))
    p = mcnemar_p(pairs.gained, pairs.lost)
    return Null(best, best_score, "mcnemar", p, score > best_score and p < SIGNIFICANT)
