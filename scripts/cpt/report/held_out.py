"""Bits per byte of held-out text and their change against the base model, with intervals by group."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from cpt.errors import UserError
from cpt.report.resampling import resampled_sums
from cpt.report.rows import Row, read_rows

COLUMNS = ("document", "group", "bytes", "tokens", "nats")


class Losses(NamedTuple):
    """A model's loss on each held-out document of a corpus.

    Attributes:
        path: where they were read from.
        groups: int64 [documents], the group of each: documents of one page, file or folder share one.
        bytes: int64 [documents], UTF-8.
        nats: float64 [documents], the loss summed over a document's scored tokens.
    """

    path: Path
    groups: np.ndarray
    bytes: np.ndarray
    nats: np.ndarray


def read_losses(path: Path) -> Losses:
    """Read bits_per_byte.{corpus}.documents.csv.

    Raises UserError if a column or all rows are missing, or if a loss isn't finite.
    """
    rows = read_rows(path, COLUMNS)
    groups, size, nats = (
        np.array([kind(row[name]) for row in rows])
        for name, kind in (("group", int), ("bytes", int), ("nats", float))
    )
    if not np.isfinite(nats).all():
        document = rows[int(np.flatnonzero(~np.isfinite(nats))[0])]["document"]
        raise UserError(
            f"{path}: the loss on document {document} is {nats[~np.isfinite(nats)][0]}, no finite number; "
            "train the run again with a lower train.learning_rate"
        )
    return Losses(path, groups, size, nats)


def held_out_rows(losses: Sequence[Losses], seed: int) -> list[Row]:
    """A row for each model on the same documents; the first one is the base model.

    Bits per byte are the sum of the losses over ln 2 and the sum of the bytes. Groups are drawn with
    replacement (documents of a group share their author and their subject, so they are no independent
    draws): the cluster bootstrap of Davison and Hinkley (1997, section 3.8). All models are resampled with
    the same draws, so that changes are on the same documents. With few groups, plain percentiles are too
    narrow, so this uses the expanded percentile interval (Hesterberg 2014, arXiv:1411.5279): for n groups
    Phi(-sqrt(n / (n - 1)) t) with the 97.5 % quantile t of Student's distribution, n - 1 degrees.

    Returns:
        Columns of scores.csv: n (documents), groups, score (bits per byte), standard_error, ci_low, ci_high,
        base_score, difference, difference_ci_low, difference_ci_high, relative_change (%), relative_ci_low,
        relative_ci_high. The base model has no interval of a change, and a single group none at all.

    Raises:
        UserError: the models were measured on different documents.
    """
    base = losses[0]
    for other in losses[1:]:
        _check_documents(base, other)
    _, groups = np.unique(base.groups, return_inverse=True)
    quantities = (math.log(2) * base.bytes, *(each.nats for each in losses))
    parts = np.stack([np.bincount(groups, quantity) for quantity in quantities], 1)  # [groups, 1 + models]
    count, (size, *nats) = len(parts), parts.sum(0)
    scores = np.array(nats) / size
    totals = resampled_sums(parts, seed)
    draws = totals[:, 1:] / totals[:, :1]  # [resamples, models]
    tails = _tails(count)
    rows = []
    for number, score in enumerate(scores):
        change = draws[:, number] - draws[:, 0]
        row: Row = {
            **{"n": len(base.groups), "groups": count, "score": float(score)},
            **{"base_score": float(scores[0]), "difference": float(score - scores[0])},
            "relative_change": 100 * float(score / scores[0] - 1),
        }
        if tails:
            row["standard_error"] = float(draws[:, number].std(ddof=1))
            row["ci_low"], row["ci_high"] = _percentiles(draws[:, number], tails)
        if tails and number:
            row["difference_ci_low"], row["difference_ci_high"] = _percentiles(change, tails)
            relative = 100 * change / draws[:, 0]
            row["relative_ci_low"], row["relative_ci_high"] = _percentiles(relative, tails)
        rows.append(row)
    return rows


def _check_documents(base: Losses, other: Losses) -> None:
    if not (np.array_equal(base.groups, other.groups) and np.array_equal(base.bytes, other.bytes)):
        raise UserError(
            f"{other.path}: measured on {len(other.bytes)} documents of {other.bytes.sum()} bytes, but "
            f"{base.path} on {len(base.bytes)} of {base.bytes.sum()}; measure both on the same tokens "
            "(evaluate.held_out_tokens, train.held_out.tokens)"
        )


def _tails(groups: int) -> tuple[float, float] | None:
    """The percentiles at the ends of a 95 % interval from this number of groups; None for a single one."""
    if groups < 2:
        return None
    from scipy.stats import t  # here, since it takes a second to load

    below = NormalDist().cdf(-math.sqrt(groups / (groups - 1)) * t.ppf(0.975, groups - 1))
    return 100 * below, 100 - 100 * below


def _percentiles(values: np.ndarray, tails: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(values, tails)
    return float(low), float(high)
