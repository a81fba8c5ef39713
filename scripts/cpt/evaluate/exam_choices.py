"""Wrong answers of an item: those with which no rule that ignores the question finds the right one."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cpt.evaluate.exam_candidates import Candidate
from cpt.evaluate.exam_text import words_of

CHOICES = 4
# What answers without reading: the choice that has most of this, or (with a minus) least of it.
NULLS = ("longest", "shortest", "most_frequent", "rarest", "likeliest", "unlikeliest", "most_overlapping")


def null_scores(candidate: Candidate, likelihoods: Sequence[float]) -> np.ndarray:
    """What each of NULLS goes by, for all answers of a candidate's pool: float64 [nulls, answers].

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
    """Share of an item that each null gets right, the right answer being the first: float64 [..., nulls].

    `scores` are [..., nulls, answers]. A null that can't decide between several guesses one of them.
    """
    best = scores == scores.max(-1, keepdims=True)
    return best[..., 0] / best.sum(-1)


def choose(candidates: Sequence[Candidate], likelihoods: Sequence[Sequence[float]]) -> list[list[int]]:
    """Places in the pool of each candidate's three wrong answers.

    One item after the other takes those with which the nulls come nearest to chance over all items so far,
    measured by the sum of their squared distances. So no item is dropped for what a null answers, and any
    first part of the exam is balanced too.
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
