"""What can be scored without reading the question, and which letters a model answers."""

from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from cpt.report.samples import Answers, count
from cpt.report.statistics import SIGNIFICANT, binomial_p, mcnemar_p, pooled

ALWAYS = "always_"  # and a letter
LETTER_COLUMNS = (
    *("run", "tokens", "task", "letter", "items", "gold", "answered", "right"),
    *("gold_share", "answered_share"),
)


def letter(number: int) -> str:
    """What a choice is called, by its number from 0: A to Z, then 27, 28 and so on."""
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number + 1)


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
    stronger than one that could be had; a score that is told from it is told from all.
    """
    right = answers.right[metric]
    score, n = float(right.mean()), len(right)
    rivals = null_answers(answers)
    best = max(rivals, key=lambda name: float(rivals[name].mean()))
    of_best, chance = float(rivals[best].mean()), chance_of(answers)
    if of_best < chance:  # items with another number of choices make this binomial test a bit too careful
        p = binomial_p(int(right.sum()), n, chance)
        return Null("chance", chance, "binomial", p, score > chance and p < SIGNIFICANT)
    pairs = pooled(count(rivals[best], right, np.zeros(n, int)))
    p = mcnemar_p(pairs.gained, pairs.lost)
    return Null(best, of_best, "mcnemar", p, score > of_best and p < SIGNIFICANT)


def letter_rows(run: dict[str, Any], task: str, answers: Answers) -> list[dict[str, Any]]:
    """The rows of letters.csv of a run and task: how often a letter is right, and how often it is answered.

    Answers are those of the plain log-likelihood (acc).
    """
    rows = []
    for number in range(answers.choices.max()):
        gold, answered = answers.gold == number, answers.predicted == number
        rows.append(
            {
                "run": run["name"],
                "tokens": run["tokens"],
                "task": task,
                "letter": letter(number),
                "items": len(gold),
                "gold": int(gold.sum()),
                "answered": int(answered.sum()),
                "right": int((gold & answered).sum()),
                "gold_share": float(gold.mean()),
                "answered_share": float(answered.mean()),
            }
        )
    return rows
