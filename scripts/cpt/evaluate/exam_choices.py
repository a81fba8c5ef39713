"""The choice of wrong answers so that rules that ignore the question don't find the right answer."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cpt.evaluate.exam_candidates import Candidate
from cpt.evaluate.exam_text import words_of

CHOICES = 4
# Rules that answer without reading the question: the choice that has the most or the least of something.
NULLS = ("longest", "shortest", "most_frequent", "rarest", "likeliest", "unlikeliest", "most_overlapping")


def null_scores(candidate: Candidate, likelihoods: Sequence[float]) -> np.ndarray:
    """Returns the score by which each of NULLS chooses, for all answers of a pool: float64 [nulls, answers].

    Args:
        candidate: the question and its answers.
        likelihoods: log-probability of each answer with no text before it, in nats.
    """
    words = set(words_of(f"{candidate.before} {candidate.after}"))
    length = np.array([len(answer) for answer in candidate.pool], float)
    frequency = np.array(candidate.counts, float)
    likelihood = np.array(likelihoods, float)
    overlap = np.array([sum(word in words for word in words_of(answer)) for answer in candidate.pool], float)
    return np.stack([length, -length, frequency, -frequency, likelihood, -likelihood, overlap])


def credit(scores: np.ndarray) -> np.ndarray:
    """Returns the share of an item that each null gets right, float64 [..., nulls]; answer 0 is right.

    `scores` are [..., nulls, answers]. If several answers tie, a null guesses one of them.
    """
    best = scores == scores.max(-1, keepdims=True)
    return best[..., 0] / best.sum(-1)


def choose(candidates: Sequence[Candidate], likelihoods: Sequence[Sequence[float]]) -> list[list[int]]:
    """Returns the places in the pool of each candidate's three wrong answers.

    Item by item, it chooses the answers that bring the nulls closest to chance over all items so far, by the
    sum of squared distances. So no item is dropped because of a null, and any first part of the exam is also
    balanced.
    """
    hits = np.zeros(len(NULLS))
    places = []
    for number, (candidate, likelihood) in enumerate(zip(candidates, likelihoods, strict=True), 1):
        triples = list(combinations(range(1, len(candidate.pool)), CHOICES - 1))
        picked = np.array([(0, *triple) for triple in triples])  # [triples, choices]
        scores = null_scores(candidate, likelihood)[:, picked].swapaxes(0, 1)  # [triples, nulls, choices]
        gained = credit(scores)
        best = int(np.argmin(((hits + gained - number / CHOICES) ** 2).sum(-1).round(9)))
        hits += gained[best]
        places.append(list(triples[best]))
    return places
