"""Tokens of held-out documents on disk, written once per corpus, read by training and evaluation."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cpt.errors import UserError
from cpt.files import atomic

FEWEST_GROUPS = 30  # below it, an interval from resampled groups is too narrow


@dataclass
class HeldOut:
    """Held-out documents.

    Attributes:
        tokens: uint32 [tokens], the ids of all documents one after the other, without EOS.
        ends: int64 [documents], the end of each document in `tokens`.
        bytes: int64 [documents], UTF-8 bytes of each document, or of a conversation's answers.
        start_token: the id before each document: BOS if documents have it, else EOS. It isn't predicted, so
            only text counts.
        targets: bool [tokens], for conversations: which tokens are the assistant's. Only these are predicted,
            and no token is put before a conversation. None: documents of text.
        groups: int64 [documents]; documents of a group have the same value of the split's key, such as their
            file. None: each document is its own group.
    """

    tokens: np.ndarray
    ends: np.ndarray
    bytes: np.ndarray
    start_token: int
    targets: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.groups is None:
            self.groups = np.arange(len(self.ends))

    @property
    def predicted(self) -> np.ndarray:
        """The number of predicted tokens of each document, int64 [documents]."""
        counted = np.ones(len(self.tokens), np.int64) if self.targets is None else self.targets
        return np.diff(np.cumsum(counted)[self.ends - 1], prepend=0)

    @property
    def group_count(self) -> int:
        """The number of groups of the documents."""
        return len(np.unique(self.groups))

    def warn_of_few_groups(self, name: object) -> None:
        """Log a warning, which begins with `name`, if there are too few groups for intervals."""
        if self.group_count < FEWEST_GROUPS:
            logging.warning(
                "%s: %d documents of %d groups, and below %d groups no interval can be trusted; raise "
                "held_out.share, or measure on more tokens (evaluate.held_out_tokens, train.held_out.tokens)",
                name,
                len(self.ends),
                self.group_count,
                FEWEST_GROUPS,
            )

    def windows(self, length: int) -> list[np.ndarray]:
        """Cut the documents into windows (uint32) of at most `length` predicted tokens after one of context.

        The first window of a document starts after `start_token`, the others after the token before them, so
        each token is predicted exactly once. (lm-eval's rolling log-likelihood with a context of one token.)
        """
        before = [self.start_token] if self.targets is None else []
        return [window for _, window in self._cut(self.tokens.astype(np.uint32), before, length)]

    def owners(self, length: int) -> list[int]:
        """Returns the document's number for each window."""
        before = [self.start_token] if self.targets is None else []
        return [document for document, _ in self._cut(self.tokens, before, length)]

    def counted(self, length: int) -> list[np.ndarray]:
        """Returns for each window which of its predicted tokens count: bool [tokens of the window - 1]."""
        if self.targets is None:
            return [np.ones(len(window) - 1, bool) for window in self.windows(length)]
        return [window[1:] for _, window in self._cut(self.targets, [], length)]

    def _cut(self, values: np.ndarray, before: list[int], length: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields windows over `values` [tokens], each with its document's number."""
        for document, (begin, end) in enumerate(zip([0, *self.ends[:-1]], self.ends, strict=True)):
            stream = np.concatenate([np.array(before, values.dtype), values[begin:end]])
            for start in range(0, len(stream) - 1, length):
                yield document, stream[start : start + length + 1]

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{name: value for name, value in vars(self).items() if value is not None})


def load_held_out(path: Path) -> HeldOut:
    """Read what `HeldOut.save` wrote. Raises UserError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            tokens, ends, sizes, groups = (file[name] for name in ("tokens", "ends", "bytes", "groups"))
            return HeldOut(tokens, ends, sizes, int(file["start_token"]), file.get("targets"), groups)
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not held-out tokens ({error}); delete it and run again") from None
