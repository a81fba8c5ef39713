"""Reads a corpus's token shards as one stream, memory-mapped."""

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpt.arrays import load_array
from cpt.errors import UserError
from cpt.files import read_json

TOKENIZER_KEYS = ("dtype", "bos_token_id", "eos_token_id", "vocab_size", "tokenizer_sha256")
BLOCK_DOCUMENTS = 2**20  # per step of `spans`


class TokenSource:
    """The tokens of a corpus: its memory-mapped shards as one stream. Takes no memory per document.

    A corpus of conversations has masks too: one byte per token, 1 if it is the assistant's.

    Attributes: `tokens` and `documents` (their numbers), `tokenizer` (equal in all shards), `folder` (of the
    shards), `arrays` and `masks` (one per shard; no masks: all tokens count).
    """

    def __init__(
        self,
        corpus: str,
        tokens: Sequence[Path],
        ends: Sequence[Path],
        manifests: Sequence[Path],
        masks: Sequence[Path] = (),
    ):
        self.corpus, self.folder = corpus, tokens[0].parent
        self.arrays: list[np.ndarray] = []
        self.masks: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []  # uint64: ends of documents, counted from the shard's first token
        self.tokens = self.documents = 0
        self.offsets, self.document_offsets = [0], [0]
        self.tokenizer: dict[str, Any] = {}
        for path, ends_path, manifest_path in zip(tokens, ends, manifests, strict=True):
            manifest = read_json(manifest_path)
            require_same_tokenizer(self.tokenizer, manifest, path)
            self._add(path, manifest, load_array(ends_path, manifest["documents"] > 0))
        for path, array in zip(masks, self.arrays, strict=bool(masks)):
            self.masks.append(mapped(path, np.dtype(np.uint8), len(array)))
        if not self.tokens:
            raise UserError(
                f"corpus {corpus}: there are no tokens to pack; see filtered/*.drops.csv and "
                f"tokens/*.drops.csv under {self.folder.parent} for the rules that dropped its documents"
            )

    def _add(self, path: Path, manifest: dict[str, Any], ends: np.ndarray) -> None:
        if len(ends) != manifest["documents"] or (len(ends) and ends[-1] != manifest["tokens"]):
            raise _size_error(path)
        dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
        self.arrays.append(mapped(path, dtype, manifest["tokens"]))
        self.ends.append(np.asarray(ends))
        self.tokens += manifest["tokens"]
        self.documents += manifest["documents"]
        self.offsets.append(self.tokens)
        self.document_offsets.append(self.documents)

    def read(self, begin: int, out: np.ndarray, arrays: list[np.ndarray] | None = None) -> None:
        """Copy len(out) tokens from position `begin` of the stream on into `out`; `arrays` may be `masks`."""
        arrays, filled = arrays or self.arrays, 0
        shard = bisect_right(self.offsets, begin) - 1
        while filled < len(out):
            here = begin + filled - self.offsets[shard]
            part = arrays[shard][here : here + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1

    def spans(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields starts and ends of documents in the stream (int64), `BLOCK_DOCUMENTS` at most at a time."""
        for offset, ends in zip(self.offsets, self.ends, strict=False):
            start = offset
            for first in range(0, len(ends), BLOCK_DOCUMENTS):
                part = offset + ends[first : first + BLOCK_DOCUMENTS].astype(np.int64)
                yield np.concatenate([[start], part[:-1]]), part
                start = int(part[-1])

    def starts_between(self, begins: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The starts of documents in stretches of the stream.

        Args:
            begins: int64 [stretches], their positions in the stream.
            length: of each stretch, in tokens; all lie inside the stream.

        Returns:
            The starts of documents, counted from the begin of their stretch (uint32, flat), and their number
            in each stretch (int64).
        """
        first, last = self._documents_before(begins), self._documents_before(begins + length)
        counts = last - first
        # The numbers of the documents: first to last of each stretch, one stretch after the other.
        documents = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        starts = np.empty(len(documents), np.int64)
        for shard, places in _by_part(self.document_offsets, documents):
            numbers = documents[places] - self.document_offsets[shard]
            before = self.ends[shard][np.maximum(numbers - 1, 0)].astype(np.int64)
            starts[places] = self.offsets[shard] + np.where(numbers > 0, before, 0)
        return (starts - np.repeat(begins, counts)).astype(np.uint32), counts

    def _documents_before(self, positions: np.ndarray) -> np.ndarray:
        """The number of documents that start before each position of the stream (int64)."""
        counts = np.empty(len(positions), np.int64)
        for shard, places in _by_part(self.offsets, positions):
            if shard == len(self.ends):  # the stream's end
                counts[places] = self.documents
                continue
            inside = (positions[places] - self.offsets[shard]).astype(np.uint64)
            # A document starts at the shard's begin and at each end but the last.
            before = np.searchsorted(self.ends[shard][:-1], inside) + (inside > 0)
            counts[places] = self.document_offsets[shard] + before
        return counts


def mapped(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    """A memory-mapped file of `count` numbers. Raises UserError if it has another size."""
    if path.stat().st_size != count * dtype.itemsize:
        raise _size_error(path)
    # A plain array on the mapped memory, since slicing the class memmap is slow.
    return np.asarray(np.memmap(path, dtype, mode="r") if count else np.empty(0, dtype))


def _size_error(path: Path) -> UserError:
    return UserError(f"{path}: doesn't fit its manifest; delete it and run again")


def _by_part(offsets: list[int], values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each part between two offsets that contains values: its number, and the values' indices."""
    parts = np.searchsorted(offsets, values, "right") - 1
    order = np.argsort(parts, kind="stable")
    edges = np.flatnonzero(np.diff(parts[order], prepend=-1, append=-1))
    for begin, end in itertools.pairwise(edges.tolist()):
        places = order[begin:end]
        yield int(parts[places[0]]), places


def require_same_tokenizer(expected: dict[str, Any], manifest: dict[str, Any], path: Path) -> None:
    """Check that a shard has the tokenizer of the shards before it; the first one fills `expected`.

    Raises UserError, naming the file and the key that differs.
    """
    for key in TOKENIZER_KEYS:
        if expected.setdefault(key, manifest[key]) != manifest[key]:
            raise UserError(
                f"{path}: made with another tokenizer than the shards before it ({key} is {manifest[key]!r}, "
                f"not {expected[key]!r}); delete the tokens of this mixture's corpora and run again"
            )
