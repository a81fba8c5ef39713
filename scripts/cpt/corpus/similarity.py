"""A linear classifier of whether a text comes from one corpus rather than from another.

Features are words and pairs of neighbouring words (cpt.corpus.words, lower-cased, without punctuation) of
a text's beginning, hashed into `FEATURES` places. A feature's value is the square root of its share of
them, so that a text's features have length 1. The classifier is scikit-learn's logistic regression.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from cpt.arrays import load_array
from cpt.corpus.documents import (
    as_strings,
    open_parquet,
    raw_columns,
    read_batches,
    require_columns,
    utf8_of,
)
from cpt.corpus.words import hash_words
from cpt.errors import DamagedFileError, UserError

BEGINNING = 5_000  # bytes of a text that are classified
FEATURES_LOG2 = 20
FEATURES = 2**FEATURES_LOG2
SAMPLE = 4_000  # documents of a corpus that the classifier learns from
FEWEST = 50  # documents of a corpus; fewer are an error
HELD_OUT = 5  # every fifth document is held out to measure on
LEAST_AUC = 0.8  # below, the stage warns
MINIMA = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # for which the report states the share kept
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Features(NamedTuple):
    """One text's features: places (int32 [n], ascending) and their values (float32 [n])."""

    places: np.ndarray
    values: np.ndarray


def features_of(text: np.ndarray) -> Features:
    """The features of a text (UTF-8, uint8); none if it has no words."""
    words, _ = hash_words(bytes(text[:BEGINNING]).decode(errors="ignore").lower(), punctuation=False)
    hashes = np.concatenate([words, words[:-1] * _ODD + words[1:]])
    # The upper bits of a product depend on all bits of the hash.
    places = (hashes * _ODD >> np.uint64(64 - FEATURES_LOG2)).astype(np.int32)
    unique_places, counts = np.unique(places, return_counts=True)
    return Features(unique_places, np.sqrt(counts / max(len(places), 1)).astype(np.float32))


class Similarity:
    """Applies a classifier. Raises DamagedFileError if `path` doesn't hold a classifier's weights."""

    def __init__(self, path: Path):
        weights = load_array(path)
        if weights.shape != (FEATURES + 1,) or weights.dtype != np.float32:
            raise DamagedFileError(f"{path}: not the weights of a classifier; delete it and run again")
        self.weights, self.intercept = weights[:-1], float(weights[-1])

    def probability(self, text: np.ndarray) -> float:
        """The probability that a text (UTF-8, uint8) is from the corpus that `where` names, if both are
        equally frequent; 0 for a text without words."""
        places, values = features_of(text)
        if not len(places):
            return 0.0
        margin = float(values @ self.weights[places]) + self.intercept
        return (1 + math.tanh(margin / 2)) / 2  # the logistic function, in a form that never overflows


def texts_of(shards: Iterable[Path], text_column: str) -> Iterator[np.ndarray]:
    """The texts (UTF-8, uint8) of raw shards. Raises UserError if one lacks the column."""
    for path in shards:
        schema = open_parquet(path).schema_arrow
        column, _ = raw_columns(schema, text_column, [])
        require_columns(path, schema, column)
        for batch in read_batches(path, [column]):
            yield from utf8_of(as_strings(batch[column]))


def sample(texts: Iterable[np.ndarray]) -> list[Features]:
    """The features of the `SAMPLE` distinct texts with the smallest hashes, sorted by hash.

    So the order of the texts and their division into shards don't matter. Texts without words are skipped.
    """
    chosen: dict[bytes, Features] = {}
    limit = b"\xff" * 17  # above any digest
    for text in texts:
        key = xxhash.xxh3_128_digest(text)
        if key >= limit or key in chosen or not len((features := features_of(text)).places):
            continue
        chosen[key] = features
        if len(chosen) == 2 * SAMPLE:
            chosen = {key: chosen[key] for key in sorted(chosen)[:SAMPLE]}
            limit = max(chosen)
    return [chosen[key] for key in sorted(chosen)[:SAMPLE]]


def learn(own: Sequence[Features], general: Sequence[Features]) -> tuple[np.ndarray, dict[str, Any]]:
    """Weights that separate `own` from `general`, intercept last (float32 [FEATURES + 1]), and a report of
    their scores on every fifth document of both, held out from learning.

    Both classes have the same total weight. Raises UserError if there are too few documents.
    """
    # Imported here, since the import takes longer than some shards.
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    for name, documents in (("similar to", own), ("to be filtered", general)):
        if len(documents) < FEWEST:
            raise UserError(
                f"the corpus {name} has {len(documents)} different documents with words, too few to learn "
                f"from: at least {FEWEST}; name another corpus in `where: {{similarity: {{to: ...}}}}`, or "
                "remove `similarity` there"
            )
    documents = [*own, *general]
    ends = [0, *accumulate(len(each.places) for each in documents)]
    content = (
        np.concatenate([each.values for each in documents]),
        np.concatenate([each.places for each in documents]),
        np.array(ends, np.int32),
    )
    table = csr_array(content, shape=(len(documents), FEATURES))  # [documents, features]
    is_own = np.arange(len(documents)) < len(own)
    held_out = np.concatenate([np.arange(len(each)) % HELD_OUT == 0 for each in (own, general)])
    classifier = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=0)
    classifier.fit(table[~held_out], is_own[~held_out])
    probabilities = classifier.predict_proba(table[held_out])[:, 1]
    answers = is_own[held_out]
    shares = [(probabilities[answers], True), (probabilities[~answers], False)]
    right = [float(((values >= 0.5) == truth).mean()) for values, truth in shares]
    report = {
        "learnt_from": {"own": int((is_own & ~held_out).sum()), "general": int((~is_own & ~held_out).sum())},
        "held_out": {"own": int(answers.sum()), "general": int((~answers).sum())},
        "auc": float(roc_auc_score(answers, probabilities)),
        "accuracy": sum(right) / 2,
        "kept": {
            f"{minimum:g}": {
                "own": float((probabilities[answers] >= minimum).mean()),
                "general": float((probabilities[~answers] >= minimum).mean()),
            }
            for minimum in MINIMA
        },
    }
    weights = np.append(classifier.coef_[0], classifier.intercept_).astype(np.float32)
    return weights, report
