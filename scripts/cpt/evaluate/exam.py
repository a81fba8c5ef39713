"""The domain's own exam: items that pass every check, as a task of lm-eval on disk (docs/exam.md)."""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lm_eval.api.instance import Instance

from cpt.config_exam import Exam
from cpt.errors import UserError
from cpt.evaluate.exam_candidates import Candidate, digest
from cpt.evaluate.exam_choices import CHOICES, NULLS, choose, credit, null_scores
from cpt.evaluate.scorer import Scorer
from cpt.progress import NOTICE

RESERVE = 1.2  # measured items per wanted item, because some don't pass
OVERLAP_WORDS = 13  # of the n-grams that are searched in training text


@dataclass(frozen=True)
class Item:
    """A question with four answers, the right one first, and the results of nulls and base model."""

    candidate: Candidate
    answers: list[str]
    nulls: np.ndarray  # share of the item that each of NULLS gets right, float64 [nulls]
    closed: np.ndarray  # log-probability of each answer after the question, in nats, float64 [choices]
    open_book: np.ndarray  # the same with the passage above the question

    @property
    def rises(self) -> bool:
        """Whether the passage raises the right answer's margin over the best wrong one."""
        return bool(_margin(self.open_book) > _margin(self.closed))


def _margin(likelihoods: np.ndarray) -> float:
    return float(likelihoods[0] - likelihoods[1:].max())


def read_candidates(path: Path) -> list[Candidate]:
    """Read the candidates that exam_candidates wrote. Raises UserError if the file is damaged."""
    try:
        with path.open(encoding="utf-8") as lines:  # str.splitlines would also split at other characters
            return [Candidate(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the candidates of an exam ({error}); delete it and run again") from None


def apart_from_training(
    candidates: Sequence[Candidate], overlap: np.ndarray, refused: Counter
) -> list[Candidate]:
    """Returns the candidates whose text isn't in the training text; `refused` counts the others.

    Args:
        candidates: all candidates.
        overlap: n-grams of each, and how many of them are in training text: int64 [2, candidates].
        refused: counts by reason, which are increased.

    Raises:
        UserError: `overlap` doesn't fit the number of candidates.
    """
    if overlap.shape != (2, len(candidates)):
        raise UserError(
            f"overlap of an exam: {list(overlap.shape)} numbers don't fit {len(candidates)} candidates; "
            "delete the folder exam and run again"
        )
    kept = []
    for candidate, (ngrams, shared) in zip(candidates, overlap.T.tolist(), strict=True):
        if not ngrams:
            refused[f"fewer than {OVERLAP_WORDS} words to look for in training text"] += 1
        elif shared:
            refused[f"{OVERLAP_WORDS} words in a row are in training text"] += 1
        else:
            kept.append(candidate)
    return kept


def likelihoods(scorer: Scorer, label: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Returns each continuation's log-probability (nats) given its context, as lm-eval scores it."""
    scorer.label = label
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    return [value for value, _ in scorer.loglikelihood(requests)]


def measure(scorer: Scorer, candidates: Sequence[Candidate]) -> list[Item]:
    """Choose each candidate's three wrong answers, and score the base model without and with the passage."""
    distinct = sorted({candidate.space + answer for candidate in candidates for answer in candidate.pool})
    values = likelihoods(scorer, "exam: answers alone", [("", answer) for answer in distinct])
    alone = dict(zip(distinct, values, strict=True))
    unread = [[alone[candidate.space + answer] for answer in candidate.pool] for candidate in candidates]
    choices = [(0, *places) for places in choose(candidates, unread)]
    answers = [
        [candidate.pool[place] for place in places]
        for candidate, places in zip(candidates, choices, strict=True)
    ]
    measured = []
    for label, context in (("exam", question), ("exam with the document", open_book_question)):
        pairs = [
            (context(candidate), filling(candidate, answer))
            for candidate, four in zip(candidates, answers, strict=True)
            for answer in four
        ]
        measured.append(np.array(likelihoods(scorer, label, pairs)).reshape(-1, CHOICES))
    nulls = [
        credit(null_scores(candidate, values)[:, places])
        for candidate, values, places in zip(candidates, unread, choices, strict=True)
    ]
    return [Item(*facts) for facts in zip(candidates, answers, nulls, *measured, strict=True)]


def take(scorer: Scorer, candidates: Sequence[Candidate], wanted: int) -> tuple[list[Item], list[Item]]:
    """Measure candidates in order until `wanted` pass. Returns these, and the items that didn't pass."""
    passed: list[Item] = []
    dropped: list[Item] = []
    begin = 0
    while len(passed) < wanted and begin < len(candidates):
        end = begin + math.ceil(RESERVE * (wanted - len(passed)))
        for item in measure(scorer, candidates[begin:end]):
            (passed if item.rises else dropped).append(item)
        begin = end
    return passed[:wanted], dropped


def require_enough(made: int, exam: Exam, corpus: str, documents: int, refused: Counter) -> None:
    """Raise UserError if no item was made, or fewer than the config asks for; log fewer than the default."""
    if made >= exam.wanted:
        return
    why = "; ".join(f"{count} questions: {reason}" for reason, count in refused.most_common()) or "none"
    text = (
        f"{made} of {exam.wanted} items could be made from {documents} held-out documents of {corpus} "
        f"(refused: {why})"
    )
    more = (
        f"hold out more of it with corpora.{corpus}.held_out_share or held_out.share, or name another corpus "
        "in evaluate.exam.corpus"
    )
    if not made:
        raise UserError(f"evaluate.exam: {text}; {more}")
    if exam.items:
        raise UserError(f"evaluate.exam.items: {text}; set items: {made}, or {more}")
    logging.log(NOTICE, "evaluate.exam: %s; for smaller changes to be found, %s", text, more)


def question(candidate: Candidate) -> str:
    """Returns the text that a model reads before an answer."""
    return candidate.before


def open_book_question(candidate: Candidate) -> str:
    """Returns the question below the document's passage."""
    return f"{candidate.passage}\n\n{candidate.before}"


def filling(candidate: Candidate, answer: str) -> str:
    """Returns the scored text of an answer: the answer and the text after the blank."""
    return candidate.space + answer + candidate.after


def rows_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Returns the exam's rows. The right answer is at each place equally often, in pseudo-random order."""
    order = sorted(range(len(items)), key=lambda number: digest(items[number].candidate.before, number))
    place = {number: rank % CHOICES for rank, number in enumerate(order)}
    rows = []
    for number, item in enumerate(items):
        right, *wrong = item.answers
        wrong.sort(key=lambda answer, item=item: digest(item.candidate.before, answer))
        choices = [*wrong[: place[number]], right, *wrong[place[number] :]]
        rows.append(
            {
                "kind": item.candidate.kind,
                "document": item.candidate.document,
                "url": item.candidate.url,
                "question": question(item.candidate),
                "open_book": open_book_question(item.candidate),
                "choices": choices,
                "after": item.candidate.after,
                "fillings": [filling(item.candidate, answer) for answer in choices],
                "gold": place[number],
            }
        )
    return rows


def score(likelihood: np.ndarray, fillings: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Returns lm-eval's acc and acc_norm with intervals. `likelihood` [items, choices]; choice 0 is right."""
    lengths = np.array([[len(text) for text in texts] for texts in fillings])
    right = {"acc": likelihood.argmax(-1) == 0, "acc_norm": (likelihood / lengths).argmax(-1) == 0}
    return {metric: share(float(hits.sum()), len(hits)) for metric, hits in right.items()}


def share(hits: float, n: int) -> dict[str, float]:
    """Returns a share with Wilson's 95 % interval (1927), at the nearest whole count of hits."""
    from scipy.stats import binomtest  # not at the top: it takes a second to load

    interval = binomtest(round(hits), n).proportion_ci(method="wilson")
    return {"score": hits / n, "low": float(interval.low), "high": float(interval.high)}


def facts_of(items: Sequence[Item], dropped: Sequence[Item]) -> dict[str, Any]:
    """Returns what exam.json reports about the items and about those that the last check dropped."""
    documents = {item.candidate.document for item in items}
    addresses = {item.candidate.url or item.candidate.document for item in items}
    hits = np.sum([item.nulls for item in items], axis=0)
    return {
        "n": len(items),
        "kinds": dict(sorted(Counter(item.candidate.kind for item in items).items())),
        "documents": len(documents),
        "groups": len(addresses),
        "chance": 1 / CHOICES,
        "nulls": {name: share(float(value), len(items)) for name, value in zip(NULLS, hits, strict=True)},
        "base": {
            "without_document": _base(items, "closed"),
            "with_document": _base(items, "open_book"),
            # All items before the last check, to show how dropping some changed the score.
            "without_document_before_check": _base([*items, *dropped], "closed"),
        },
    }


def notice_nulls(facts: dict[str, Any]) -> None:
    """Log which nulls (rules that ignore the question) beat chance despite the choice of wrong answers."""
    for name, null in facts["nulls"].items():
        if null["low"] > facts["chance"]:
            logging.log(
                NOTICE,
                "evaluate.exam: the answer that is %s is right in %.0f %% of the exam's items; compare "
                "scores with that instead of chance",
                name.replace("_", " "),
                100 * null["score"],
            )


def _base(items: Sequence[Item], which: str) -> dict[str, dict[str, float]]:
    fillings = [[filling(item.candidate, answer) for answer in item.answers] for item in items]
    return score(np.stack([getattr(item, which) for item in items]), fillings)


def task_yaml(task: str, items: Path, context: str, version: str) -> str:
    """Returns the YAML of an lm-eval task on the rows in `items`; `context` is the field of the question."""
    definition = {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": context,
        "doc_to_choice": "fillings",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        "metadata": {"version": version},
    }
    return yaml.safe_dump(definition, sort_keys=False)
