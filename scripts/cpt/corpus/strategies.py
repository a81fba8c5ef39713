"""How the stream of a corpus becomes sequences: cut every so many tokens, or documents kept whole."""

from typing import Protocol

import numpy as np

from cpt.corpus.best_fit import best_fit
from cpt.corpus.stream import TokenSource


class Strategy(Protocol):
    """The sequences of a source, numbered 0 to `sequences` - 1.

    Attributes: `source`, `length` (of a sequence, in tokens), `sequences`, `tail_tokens` (in no sequence),
    `truncated_documents` (with tokens in more than one sequence, or in the tail too).
    """

    source: TokenSource
    length: int
    sequences: int
    tail_tokens: int
    truncated_documents: int

    def __init__(self, source: TokenSource, length: int): ...

    def read(self, number: int, out: np.ndarray) -> tuple[np.ndarray, int]:
        """Copy the tokens of a sequence into `out` [length].

        Returns the positions (uint32) at which documents start, and the number of tokens; what comes
        after them is left as it was.
        """

    def tokens_in(self, numbers: np.ndarray) -> int:
        """Tokens of these sequences (int64), padding not counted."""

    def summary(self) -> dict[str, int]:
        """sequences, padding_tokens and truncated_documents, if all sequences are used once."""


class Concatenate:
    """The stream is cut every `length` tokens, as in the paper; no padding."""

    def __init__(self, source: TokenSource, length: int):
        self.source, self.length = source, length
        self.sequences, self.tail_tokens = divmod(source.tokens, length)
        self.truncated_documents = cut_by_concatenation(source.starts, source.tokens, length)
        edges = np.arange(self.sequences + 1, dtype=np.uint64) * np.uint64(length)
        self.first = np.searchsorted(source.starts, edges)  # document that starts in a sequence or after it

    def read(self, number: int, out: np.ndarray) -> tuple[np.ndarray, int]:
        begin = number * self.length
        self.source.read(begin, out)
        starts = self.source.starts[self.first[number] : self.first[number + 1]]
        return (starts - np.uint64(begin)).astype(np.uint32), self.length

    def tokens_in(self, numbers: np.ndarray) -> int:
        return len(numbers) * self.length

    def summary(self) -> dict[str, int]:
        return {
            "sequences": self.sequences,
            "padding_tokens": 0,
            "truncated_documents": self.truncated_documents,
        }


class BestFit:
    """Documents stay whole unless they are longer than a sequence; padding fills what stays free.

    The pieces of a sequence lie in it in the order of the stream, each counted as a start.
    """

    def __init__(self, source: TokenSource, length: int):
        self.source, self.length = source, length
        self.begins, self.sizes, self.offsets = best_fit(source.starts, source.tokens, length)
        self.sequences, self.tail_tokens = len(self.offsets) - 1, 0
        sizes = np.diff(source.starts, append=np.uint64(source.tokens))
        self.truncated_documents = int(np.count_nonzero(sizes > length))

    def read(self, number: int, out: np.ndarray) -> tuple[np.ndarray, int]:
        pieces = slice(self.offsets[number], self.offsets[number + 1])
        begins, sizes = self.begins[pieces], self.sizes[pieces]
        ends = np.cumsum(sizes, dtype=np.uint32)
        starts = ends - sizes
        for begin, start, end in zip(begins.tolist(), starts.tolist(), ends.tolist(), strict=True):
            self.source.read(begin, out[start:end])
        return starts, int(ends[-1])

    def tokens_in(self, numbers: np.ndarray) -> int:
        return int(np.add.reduceat(self.sizes, self.offsets[:-1], dtype=np.int64)[numbers].sum())

    def summary(self) -> dict[str, int]:
        return {
            "sequences": self.sequences,
            "padding_tokens": self.sequences * self.length - self.source.tokens,
            "truncated_documents": self.truncated_documents,
        }


STRATEGIES: dict[str, type[Concatenate] | type[BestFit]] = {"concatenate": Concatenate, "best_fit": BestFit}


def cut_by_concatenation(starts: np.ndarray, total: int, length: int) -> int:
    """How many documents have tokens in more than one sequence if all are concatenated and cut.

    `starts` (uint64 [documents]) are their positions in the stream of `total` tokens; what is left behind
    the last full sequence counts as one more.
    """
    if not len(starts):
        return 0
    ends = np.append(starts[1:], np.uint64(total))
    return int(np.count_nonzero(starts // np.uint64(length) != (ends - np.uint64(1)) // np.uint64(length)))
