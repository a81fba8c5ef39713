"""Strategies to make sequences of a corpus's stream: cut it at a fixed length, or keep documents whole.

Conversations are always kept whole, or cut after an answer.
"""

import numpy as np

from cpt.corpus.stream import TokenSource


class Concatenate:
    """Cuts the stream every `length` tokens, as in the paper; no padding, and no memory per document.

    Attributes of a strategy: `source`, `length` (of a sequence, in tokens), `sequences` (their number; they
    are numbered from 0), `tail_tokens` (in no sequence), `truncated_documents` (with tokens in more than one
    sequence, or in a sequence and the tail).
    """

    def __init__(self, source: TokenSource, length: int):
        self.source, self.length = source, length
        self.sequences, self.tail_tokens = divmod(source.tokens, length)
        self.truncated_documents = cut_by_concatenation(source, length)

    def read(self, numbers: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copy the tokens of sequences (int64 [n]) into `out` [n, length].

        Returns the positions in sequences at which documents start (uint32, flat), the number of these in
        each sequence (int64 [n]), and its number of tokens (uint32 [n]). `out` stays unchanged after these.
        """
        # In the order of the stream, so that the disk is read sequentially.
        order = np.argsort(numbers)
        begins = numbers[order] * self.length
        for row, begin in zip(order.tolist(), begins.tolist(), strict=True):
            self.source.read(begin, out[row])
        starts, counts = self.source.starts_between(begins, self.length)
        back = np.argsort(order)
        first = (np.cumsum(counts) - counts)[back]
        counts = counts[back]
        places = np.arange(len(starts)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        return starts[places], counts, np.full(len(numbers), self.length, np.uint32)

    def tokens_in(self, numbers: np.ndarray) -> int:
        """The number of tokens in these sequences (int64), without padding."""
        return len(numbers) * self.length

    @staticmethod
    def summary(source: TokenSource, length: int) -> dict[str, int]:
        """The counts sequences, padding_tokens and truncated_documents if every sequence is used once."""
        return {
            "sequences": source.tokens // length,
            "padding_tokens": 0,
            "truncated_documents": cut_by_concatenation(source, length),
        }


class BestFit:
    """Keeps documents whole unless they are longer than a sequence; padding fills the rest.

    The pieces of a sequence are in the order of the stream, and each counts as a start. Memory: see
    `cpt.corpus.best_fit.best_fit`.
    """

    def __init__(self, source: TokenSource, length: int):
        from cpt.corpus.best_fit import best_fit  # compiled code, which the other strategy doesn't need

        self.source, self.length = source, length
        starts, total = self._documents()
        self.begins, self.sizes, self.offsets = best_fit(starts, total, length)
        self.sequences, self.tail_tokens = len(self.offsets) - 1, source.tokens - total
        self.truncated_documents = longer_documents(source, length)

    def _documents(self) -> tuple[np.ndarray, int]:
        """The documents' starts in the stream to pack (uint64, ascending), and its number of tokens."""
        return np.concatenate([begins for begins, _ in self.source.spans()]).view(
            np.uint64
        ), self.source.tokens

    def read(
        self, numbers: np.ndarray, out: np.ndarray, arrays: list[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        row_starts = []
        lengths = np.empty(len(numbers), np.uint32)
        for row, number in enumerate(numbers.tolist()):
            pieces = slice(self.offsets[number], self.offsets[number + 1])
            begins, sizes = self.begins[pieces], self.sizes[pieces]
            ends = np.cumsum(sizes, dtype=np.uint32)
            starts = ends - sizes
            for begin, start, end in zip(begins.tolist(), starts.tolist(), ends.tolist(), strict=True):
                self.source.read(begin, out[row, start:end], arrays)
            row_starts.append(starts)
            lengths[row] = ends[-1]
        return np.concatenate(row_starts), np.array([len(starts) for starts in row_starts]), lengths

    def tokens_in(self, numbers: np.ndarray) -> int:
        return int(np.add.reduceat(self.sizes, self.offsets[:-1], dtype=np.int64)[numbers].sum())

    @staticmethod
    def summary(source: TokenSource, length: int) -> dict[str, int]:
        sequences = best_fit_sequences(source, length)
        return {
            "sequences": sequences,
            "padding_tokens": sequences * length - source.tokens,
            "truncated_documents": longer_documents(source, length),
        }


class Conversations(BestFit):
    """Packs conversations (a source with masks) as `BestFit` does, whatever the mixture's strategy.

    A conversation longer than a sequence ends after its last answer that fits. The rest, or the whole
    conversation if not even its first answer fits, is in no sequence: it counts as `tail_tokens`.
    """

    def __init__(self, source: TokenSource, length: int):
        super().__init__(source, length)
        # Convert positions in the packed stream, without cut-off tokens, to the source's.
        self.begins = self.places[np.searchsorted(self.starts, self.begins)]

    def _documents(self) -> tuple[np.ndarray, int]:
        begins, ends = (np.concatenate(edges) for edges in zip(*self.source.spans(), strict=True))
        sizes = ends - begins
        for number in np.flatnonzero(sizes > self.length).tolist():
            mask = np.empty(self.length + 1, np.uint8)
            self.source.read(int(begins[number]), mask, self.source.masks)
            after = np.flatnonzero((mask[:-1] == 1) & (mask[1:] == 0))  # last tokens of answers
            sizes[number] = after[-1] + 1 if len(after) else 0
        kept = sizes > 0
        self.places, sizes = begins[kept], sizes[kept]
        self.starts = np.cumsum(sizes) - sizes
        return self.starts.view(np.uint64), int(sizes.sum())

    def read_masks(self, numbers: np.ndarray, out: np.ndarray) -> None:
        """Copy the masks of sequences (int64 [n]) into `out` (uint8 [n, length]), as `read` does tokens."""
        self.read(numbers, out, self.source.masks)


Strategy = Concatenate | BestFit
# Of documents, by `packing.strategy`.
STRATEGIES: dict[str, type[Strategy]] = {"concatenate": Concatenate, "best_fit": BestFit}


def cut_by_concatenation(source: TokenSource, length: int) -> int:
    """The number of documents with tokens in more than one sequence if all are concatenated and cut.

    The tail after the last full sequence counts as a sequence.
    """
    return sum(
        int(np.count_nonzero(starts // length != (ends - 1) // length)) for starts, ends in source.spans()
    )


def longer_documents(source: TokenSource, length: int) -> int:
    """The number of documents with more than `length` tokens."""
    return sum(int(np.count_nonzero(ends - starts > length)) for starts, ends in source.spans())


def best_fit_sequences(source: TokenSource, length: int) -> int:
    """The number of sequences that `best_fit` makes, without placing the documents: memory O(length).

    Documents of equal length are interchangeable, and so are sequences with equal room. The next document of
    s tokens goes into the sequence with the least room r >= s. The following ones of s tokens go there too,
    r // s in all, as its room is then the least in which they fit. So whole groups are placed at a time.
    """
    rests = np.zeros(length, np.int64)  # by length: documents, and the rests of longer ones
    sequences = 0
    for starts, ends in source.spans():
        sizes = ends - starts
        rests += np.bincount(sizes % length, minlength=length)
        sequences += int((sizes // length).sum())
    rooms = np.zeros(length + 1, np.int64)  # sequences, by room; full ones aren't considered
    for size in range(length - 1, 0, -1):
        left = int(rests[size])
        while left and len(roomy := np.flatnonzero(rooms[size:])):
            room = size + int(roomy[0])
            each = room // size
            filled = min(int(rooms[room]), left // each) or 1
            added = min(each, left)  # per sequence; fewer than fit only in the last one
            rooms[room] -= filled
            rooms[room - added * size] += filled
            left -= filled * added
        each = length // size
        opened, more = divmod(left, each)
        rooms[length - each * size] += opened
        rooms[length - more * size] += more > 0
        sequences += opened + (more > 0)
    return sequences
