"""What token ids tell of a document's quality, and how that is spread over a corpus (paper 3.2.3)."""

import csv
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpt.errors import DamagedFileError
from cpt.files import write_text

# Lower edges of the bins of each measure; the last bin has no upper edge. Fixed, so that the counts of
# shards may be added up. Bins of shares of unknown tokens grow by 10^(1/5), runs by 3/2 and 4/3.
BINS: dict[str, tuple[float, ...]] = {
    "bytes_per_token": tuple(tenths / 10 for tenths in range(161)),
    "unknown_share": (0.0, *(float(f"{10 ** (fifths / 5):.3g}") for fifths in range(-25, 1))),
    "distinct_share": tuple(hundredths / 100 for hundredths in range(101)),
    "longest_run": (0, 1, 2, 3, 4, 6, *(2**power * step // 2 for power in range(3, 21) for step in (2, 3))),
}


class Quality(NamedTuple):
    """The measures of one document; those of a document without tokens are inf, 0, 0, 0."""

    bytes_per_token: float
    unknown_share: float
    distinct_share: float  # distinct tokens over all, within windows
    longest_run: int  # tokens


def longest_run(ids: np.ndarray) -> int:
    """How many times one token follows itself at most, itself included: 3 for 5 7 7 7 5; 0 without tokens."""
    if not len(ids):
        return 0
    changes = np.flatnonzero(ids[1:] != ids[:-1])
    return int(np.diff(changes, prepend=-1, append=len(ids) - 1).max())


class QualityHistogram:
    """Documents per bin of each measure."""

    def __init__(self) -> None:
        self.counts = {measure: [0] * len(edges) for measure, edges in BINS.items()}

    def add(self, found: Quality) -> None:
        """Count a document; a value on an edge belongs to the bin above it."""
        for measure, value in found._asdict().items():
            self.counts[measure][bisect_right(BINS[measure], value) - 1] += 1

    def add_file(self, path: Path) -> None:
        """Add what `write` has written. Raises DamagedFileError if it isn't complete."""
        before = self._documents()
        try:
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    measure = row["measure"]
                    self.counts[measure][BINS[measure].index(float(row["from"]))] += int(row["documents"])
        except (ValueError, KeyError, TypeError, csv.Error):
            raise DamagedFileError(f"{path}: not a complete table; delete it and run again") from None
        # Each measure counts every document once.
        if len({now - then for now, then in zip(self._documents(), before, strict=True)}) > 1:
            raise DamagedFileError(f"{path}: ends too early; delete it and run again")

    def _documents(self) -> list[int]:
        return [sum(counts) for counts in self.counts.values()]

    def lines(self) -> list[str]:
        """`measure,from,to,documents` of the bins that aren't empty; a last bin has no `to`."""
        return [
            f"{measure},{edge},{upper},{count}"
            for measure, edges in BINS.items()
            for edge, upper, count in zip(edges, (*edges[1:], ""), self.counts[measure], strict=True)
            if count
        ]

    def write(self, path: Path) -> None:
        """Write `lines` as CSV."""
        write_text(path, "\n".join(["measure,from,to,documents", *self.lines()]) + "\n")
