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
        bytes: UTF-8 bytes that all of them stand for.
        start_token: the id that each document is read after (EOS).
    """

    tokens: np.ndarray
    ends: np.ndarray
    bytes: int
    start_token: int

    def windows(self, length: int) -> list[np.ndarray]:
        """Cut the documents into windows (uint32) of at most `length` predicted tokens after one of context.

        The first window of a document starts after `start_token`, the others after the token before them:
        each token is predicted exactly once. (lm-eval's rolling log-likelihood with a context of one token.)
        """
        cut = []
        for begin, end in zip([0, *self.ends[:-1]], self.ends, strict=True):
            stream = np.concatenate([[self.start_token], self.tokens[begin:end]]).astype(np.uint32)
            cut += [stream[start : start + length + 1] for start in range(0, end - begin, length)]
        return cut

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **vars(self))


def load_held_out(path: Path) -> HeldOut:
    """Read what `HeldOut.save` wrote. Raises UserError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return HeldOut(file["tokens"], file["ends"], int(file["bytes"]), int(file["start_token"]))
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not held-out tokens ({error}); delete it and run again") from None
