"""The tokens of a corpus as one stream, read where they lie."""

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

from cpt.arrays import load_array
from cpt.corpus.layout import shard_path, shards_of
from cpt.errors import UserError
from cpt.files import read_json

TOKENIZER_KEYS = ("dtype", "eos_token_id", "vocab_size", "tokenizer_sha256")


class TokenSource:
    """The tokens of a corpus: its shards, memory-mapped, as one stream.

    Attributes: `tokens`, `documents`, `tokenizer` (what all shards must agree on), `starts` (uint64: where
    in the stream each document starts).
    """

    def __init__(self, root: Path, corpus: str, shards: int):
        self.corpus = corpus
        self.arrays: list[np.ndarray] = []
        starts: list[np.ndarray] = []
        self.tokens = self.documents = 0
        self.offsets = [0]
        self.tokenizer: dict[str, Any] = {}
        for _, shard in shards_of({corpus: shards}):
            manifest = read_json(shard_path(root, corpus, "tokens", shard, ".json"))
            path = shard_path(root, corpus, "tokens", shard, ".tokens")
            require_same_tokenizer(self.tokenizer, manifest, path)
            ends = load_array(shard_path(root, corpus, "tokens", shard, ".ends.npy"))
            self._add(path, manifest, ends)
            if len(ends):
                starts.append(
                    np.concatenate([[0], ends[:-1]]).astype(np.uint64) + np.uint64(self.offsets[-2])
                )
        self.starts = np.concatenate([np.empty(0, np.uint64), *starts])
        if not self.tokens:
            raise UserError(
                f"corpus {corpus}: there are no tokens to pack; see filtered/*.drops.csv and "
                f"tokens/*.drops.csv under {root / corpus} for the rules that dropped its documents"
            )

    def _add(self, path: Path, manifest: dict[str, Any], ends: np.ndarray) -> None:
        dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
        whole = path.stat().st_size == manifest["tokens"] * dtype.itemsize
        if not whole or len(ends) != manifest["documents"] or (len(ends) and ends[-1] != manifest["tokens"]):
            raise UserError(f"{path}: doesn't fit its manifest; delete it and run again")
        empty = np.empty(0, dtype)
        self.arrays.append(np.memmap(path, dtype, mode="r") if manifest["tokens"] else empty)
        self.tokens += manifest["tokens"]
        self.documents += manifest["documents"]
        self.offsets.append(self.tokens)

    def read(self, begin: int, out: np.ndarray) -> None:
        """Copy the len(out) tokens from position `begin` of the stream on into `out`."""
        filled = 0
        shard = bisect_right(self.offsets, begin) - 1
        while filled < len(out):
            here = begin + filled - self.offsets[shard]
            part = self.arrays[shard][here : here + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1


def require_same_tokenizer(expected: dict[str, Any], manifest: dict[str, Any], path: Path) -> None:
    """Check a shard's manifest against what the shards before had; the first one fills `expected`.

    Raises UserError naming the file and the key that differs.
    """
    for key in TOKENIZER_KEYS:
        if expected.setdefault(key, manifest[key]) != manifest[key]:
            raise UserError(
                f"{path}: made with another tokenizer than the shards before it ({key} is {manifest[key]!r}, "
                f"not {expected[key]!r}); delete the tokens of this mixture's corpora and run again"
            )
