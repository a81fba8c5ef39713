"""How the stream of a corpus becomes sequences: cut at a fixed length, or documents kept whole.

Conversations are always kept whole, or cut after an answer.
"""

import numpy as np

from cpt.corpus.stream import TokenSource


class Concatenate:
    """The stream is cut every `length` tokens, as in the paper; no padding. Holds nothing per document.

    Attributes of a strategy: `source`, `length` (of a sequence, in tokens), `sequences` (numbered from 0),
    `tail_tokens` (in no sequence), `truncated_documents` (with tokens in more than one sequence, or in the
    tail too).
    """

    def __init__(self, source: TokenSource, length: int):
        self.source, self.length = source, length
        self.sequences, self.tail_tokens = divmod(source.tokens, length)
        self.truncated_documents = cut_by_concatenation(source, length)

    def read(self, numbers: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copy the tokens of sequences (int64 [n]) into `out` [n, length].

        Returns the positions in them (uint32, flat) at which documents start, how many each sequence has
        (int64 [n]), and its number of tokens (uint32 [n]); what comes after them is left as it was.
        """
        # In the order of the stream: what lies close together on the disk is read one after the other.
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
        """Tokens of these sequences (int64), padding not counted."""
        return len(numbers) * self.length

    @staticmethod
    def summary(source: TokenSource, length: int) -> dict[str, int]:
        """sequences, padding_tokens and truncated_documents, if all sequences are used once."""
        return {
            "sequences": source.tokens // length,
            "padding_tokens": 0,
            "truncated_documents": cut_by_concatenation(source, length),
        }


class BestFit:
    """Documents stay whole unless they are longer than a sequence; padding fills what stays free.

    The pieces of a sequence lie in it in the order of the stream, each counted as a start. Memory: see
    `cpt.corpus.best_fit.best_fit`.
    """

    def __init__(self, source: TokenSource, length: int):
        from cpt.corpus.best_fit import best_fit  # compiled code, which the other strategy does without

        self.source, self.length = source, length
        starts, total = self._documents()
        self.begins, self.sizes, self.offsets = best_fit(starts, total, length)
        self.sequences, self.tail_tokens = len(self.offsets) - 1, source.tokens - total
        self.truncated_documents = longer_documents(source, length)

    def _documents(self) -> tuple[np.ndarray, int]:
        """Where documents start in the stream that is packed (uint64, ascending), and its tokens."""
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
    """Conversations (a source with masks) are packed as by `BestFit`, whatever the mixture's strategy.

    One that is longer than a sequence ends after the last of its answers that fits. What comes after that,
    and the whole conversation if not even its first answer fits, is in no sequence: `tail_tokens`.
    """

    def __init__(self, source: TokenSource, length: int):
        super().__init__(source, length)
        # From the stream without what was cut off to the source's own.
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
        """Copy the masks of sequences (int64 [n]) into `out` (uint8 [n, length]), as `read` the tokens."""
        self.read(numbers, out, self.source.masks)


Strategy = Concatenate | BestFit
# By `packing.strategy`; for documents.
STRATEGIES: dict[str, type[Strategy]] = {"concatenate": Concatenate, "best_fit": BestFit}


def cut_by_concatenation(source: TokenSource, length: int) -> int:
    """How many documents have tokens in more than one sequence if all are concatenated and cut.

    What remains after the last full sequence counts as one more.
    """
    return sum(
        int(np.count_nonzero(starts // length != (ends - 1) // length)) for starts, ends in source.spans()
    )


def longer_documents(source: TokenSource, length: int) -> int:
    """How many documents have more than `length` tokens."""
    return sum(int(np.count_nonzero(ends - starts > length)) for starts, ends in source.spans())


def best_fit_sequences(source: TokenSource, length: int) -> int:
    """How many sequences `best_fit` makes, without placing the documents: memory O(length).

    Documents of equal length are alike, and so are sequences with equal room. The next document of s tokens
    goes into the sequence with the least room r >= s, and so do the ones after it while they fit, as no
    other sequence with that much room has less: r // s of them. So whole groups are placed at a time.
    """
    rests = np.zeros(length, np.int64)  # documents, and ends of longer ones, by length
    sequences = 0
    for starts, ends in source.spans():
        sizes = ends - starts
        rests += np.bincount(sizes % length, minlength=length)
        sequences += int((sizes // length).sum())
    rooms = np.zeros(length + 1, np.int64)  # sequences, by room; those without room aren't looked at
    for size in range(length - 1, 0, -1):
        left = int(rests[size])
        while left and len(roomy := np.flatnonzero(rooms[size:])):
            room = size + int(roomy[0])
            each = room // size
            filled = min(int(rooms[room]), left // each) or 1
            added = min(each, left)  # to each sequence; fewer than it holds only to the last one
            rooms[room] -= filled
            rooms[room - added * size] += filled
            left -= filled * added
        each = length // size
        opened, more = divmod(left, each)
        rooms[length - each * size] += opened
        rooms[length - more * size] += more > 0
        sequences += opened + (more > 0)
    return sequences
