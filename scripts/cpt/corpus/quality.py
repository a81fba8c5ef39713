"""Measures a document's quality from its token ids; histograms over a corpus (paper 3.2.3)."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpt.errors import DamagedFileError
from cpt.files import write_text

WINDOW_TOKENS = 1_000  # the distinct share is measured in windows of this length
# Lower edges of each measure's bins; the last bin has no upper edge. They are fixed, so that counts of
# shards can be added. Bins of the unknown share grow by 10^(1/5), those of runs by 3/2 and 4/3.
BINS: dict[str, tuple[float, ...]] = {
    "bytes_per_token": tuple(tenths / 10 for tenths in range(161)),
    "unknown_share": (0.0, *(float(f"{10 ** (fifths / 5):.3g}") for fifths in range(-25, 1))),
    "distinct_share": tuple(hundredths / 100 for hundredths in range(101)),
    "longest_run": (0, 1, 2, 3, 4, 6, *(2**power * step // 2 for power in range(3, 21) for step in (2, 3))),
}

# In a histogram's file: marks rows on the bounds of scripts other than Latin, which aren't bins.
SCRIPT_BOUNDS = "minimum_bytes_per_token"


class Quality(NamedTuple):
    """Arrays [documents] of the measures; a document without tokens has inf, 0, 0, 0."""

    bytes_per_token: np.ndarray
    unknown_share: np.ndarray
    distinct_share: np.ndarray  # distinct tokens over all, within windows of `WINDOW_TOKENS`
    longest_run: np.ndarray  # tokens


def quality_of(ids: np.ndarray, ends: np.ndarray, sizes: np.ndarray, unknown_id: int | None) -> Quality:
    """The measures of documents whose tokens without EOS are `ids`, one document after the other.

    Args:
        ids: whole numbers [tokens].
        ends: int64 [documents], the end of each document in `ids`.
        sizes: int64 [documents], bytes of UTF-8.
        unknown_id: the id of the unknown token; None if there is none.
    """
    counts = np.diff(ends, prepend=0)
    some = np.maximum(counts, 1)
    per_token = np.where(counts > 0, sizes / some, np.inf)
    unknown = np.zeros(len(ends), np.int64)
    if unknown_id is not None:
        places = np.searchsorted(ends, np.flatnonzero(ids == unknown_id), "right")
        unknown = np.bincount(places, minlength=len(ends))
    distinct = distinct_tokens(ids, ends)
    return Quality(per_token, unknown / some, distinct / some, longest_runs(ids, ends))


def distinct_tokens(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Each document's distinct tokens (int64), summed over its windows of `WINDOW_TOKENS` tokens."""
    counts = np.diff(ends, prepend=0)
    windows = -(-counts // WINDOW_TOKENS)
    owners = np.repeat(np.arange(len(ends)), windows)
    inside = np.arange(len(owners)) - np.repeat(np.cumsum(windows) - windows, windows)
    begins = (ends - counts)[owners] + WINDOW_TOKENS * inside
    lasts = np.minimum(begins + WINDOW_TOKENS, ends[owners]) - 1
    # A shorter window is padded with its last token, which adds no distinct one.
    rows = ids[np.minimum(begins[:, None] + np.arange(WINDOW_TOKENS), lasts[:, None])]
    rows.sort(axis=1)
    distinct = 1 + np.count_nonzero(rows[:, 1:] != rows[:, :-1], axis=1)
    return np.bincount(owners, distinct, minlength=len(ends)).astype(np.int64)


def longest_runs(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The length of the longest run of one token in each document (int64).

    3 for 5 7 7 7 5; 0 without tokens.
    """
    repeats = ids[1:] == ids[:-1]
    inner = ends[(ends > 0) & (ends < len(ids))]
    repeats[inner - 1] = False  # runs end with their document
    places = np.flatnonzero(repeats)
    firsts = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    lengths = 1 + np.diff(firsts, append=len(places))
    longest = np.minimum(np.diff(ends, prepend=0), 1)
    np.maximum.at(longest, np.searchsorted(ends, places[firsts], "right"), lengths)
    return longest


class QualityHistogram:
    """Counts documents per bin of each measure, and in `judged` those checked against the bound of a
    script other than Latin: {(script, bound): documents}."""

    def __init__(self) -> None:
        self.judged: dict[tuple[str, float], int] = {}
        self.counts = {measure: [0] * len(edges) for measure, edges in BINS.items()}

    def add(self, found: Quality) -> None:
        """Count documents; a value on an edge belongs to the bin above it."""
        for measure, values in found._asdict().items():
            counts = self.counts[measure]
            bins = np.searchsorted(BINS[measure], values, "right") - 1
            for number, count in enumerate(np.bincount(bins, minlength=len(counts)).tolist()):
                counts[number] += count

    def add_file(self, path: Path) -> None:
        """Add the counts of a file of `write`. Raises DamagedFileError if it isn't complete."""
        before = self._documents()
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                if not rows.fieldnames:
                    raise ValueError("no header")
                for row in rows:
                    measure = row["measure"]
                    if measure == SCRIPT_BOUNDS:
                        key = row["to"], float(row["from"])
                        self.judged[key] = self.judged.get(key, 0) + int(row["documents"])
                        continue
                    self.counts[measure][BINS[measure].index(float(row["from"]))] += int(row["documents"])
        except (ValueError, KeyError, TypeError, csv.Error):
            raise DamagedFileError(f"{path}: not a complete table; delete it and run again") from None
        # Each measure counts every document once.
        if len({now - then for now, then in zip(self._documents(), before, strict=True)}) > 1:
            raise DamagedFileError(f"{path}: ends too early; delete it and run again")

    def _documents(self) -> list[int]:
        return [sum(counts) for counts in self.counts.values()]

    def lines(self) -> list[str]:
        """`measure,from,to,documents` of the bins that aren't empty; a last bin has no `to`.

        Rows of `judged` follow: `SCRIPT_BOUNDS`, bound, script, documents.
        """
        judged = [
            f"{SCRIPT_BOUNDS},{bound},{script},{count}"
            for (script, bound), count in sorted(self.judged.items())
        ]
        return [
            f"{measure},{edge},{upper},{count}"
            for measure, edges in BINS.items()
            for edge, upper, count in zip(edges, (*edges[1:], ""), self.counts[measure], strict=True)
            if count
        ] + judged

    def write(self, path: Path) -> None:
        """Write `lines` as CSV."""
        write_text(path, "\n".join(["measure,from,to,documents", *self.lines()]) + "\n")
