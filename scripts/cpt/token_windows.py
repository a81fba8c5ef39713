"""Tokens of held-out documents on disk: written once per corpus, read by training and by evaluation."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cpt.errors import UserError
from cpt.files import atomic


@dataclass
class HeldOut:
    """Held-out documents.

    Attributes:
        tokens: uint32 [tokens], the documents' ids one after the other, without EOS.
        ends: int64 [documents], where in them each document ends.
        bytes: UTF-8 bytes that all of them, or of conversations the answers, stand for.
        start_token: the id that each document is read after: BOS where documents have it, else EOS. It isn't
            predicted, so that only text counts.
        targets: of conversations: bool [tokens], which tokens are the assistant's. Only these are predicted,
            and nothing is put before a conversation. None: documents of text.
    """

    tokens: np.ndarray
    ends: np.ndarray
    bytes: int
    start_token: int
    targets: np.ndarray | None = None

    @property
    def predicted(self) -> int:
        """How many tokens the loss is measured on."""
        return len(self.tokens) if self.targets is None else int(self.targets.sum())

    def windows(self, length: int) -> list[np.ndarray]:
        """Cut the documents into windows (uint32) of at most `length` predicted tokens after one of context.

        The first window of a document starts after `start_token`, the others after the token before them:
        each token is predicted exactly once. (lm-eval's rolling log-likelihood with a context of one token.)
        """
        before = [self.start_token] if self.targets is None else []
        return self._cut(self.tokens.astype(np.uint32), before, length)

    def counted(self, length: int) -> list[np.ndarray]:
        """Of each window, which of its predicted tokens count: bool [tokens of the window - 1]."""
        if self.targets is None:
            return [np.ones(len(window) - 1, bool) for window in self.windows(length)]
        return [window[1:] for window in self._cut(self.targets, [], length)]

    def _cut(self, values: np.ndarray, before: list[int], length: int) -> list[np.ndarray]:
        cut = []
        for begin, end in zip([0, *self.ends[:-1]], self.ends, strict=True):
            stream = np.concatenate([np.array(before, values.dtype), values[begin:end]])
            cut += [stream[start : start + length + 1] for start in range(0, len(stream) - 1, length)]
        return cut

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **{name: value for name, value in vars(self).items() if value is not None})


def load_held_out(path: Path) -> HeldOut:
    """Read what `HeldOut.save` wrote. Raises UserError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            targets = file.get("targets")
            return HeldOut(
                file["tokens"], file["ends"], int(file["bytes"]), int(file["start_token"]), targets
            )
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not held-out tokens ({error}); delete it and run again") from None
