"""NumPy's .npy files: a write is complete or fails, and a damaged file is reported."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from cpt.errors import DamagedFileError
from cpt.files import atomic


def save_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write a C-contiguous array to an open file, the bytes that `np.save` would write.

    On a full disk NumPy 2.4's `save` and `tofile` may lose the last bytes without an error: they ignore what
    closing C's buffered file returns.
    """
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array)


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write a .npy file atomically; see `save_array`."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        save_array(file, array)


class ArrayWriter:
    """Writes a one-dimensional .npy file part by part, with the same bytes as `save_array`."""

    def __init__(self, file: BinaryIO, dtype: np.dtype | type):
        self.file, self.dtype, self.count = file, np.dtype(dtype), 0
        self._write_header()

    def _write_header(self) -> None:
        # NumPy's header has room for any number of entries, so it can be rewritten.
        empty = np.lib.format.header_data_from_array_1_0(np.empty(0, self.dtype))
        np.lib.format.write_array_header_1_0(self.file, {**empty, "shape": (self.count,)})

    def add(self, part: np.ndarray) -> None:
        """Append the entries of an array."""
        self.file.write(np.ascontiguousarray(part, self.dtype))
        self.count += len(part)

    def finish(self) -> None:
        """Put the number of entries into the header."""
        self.file.seek(0)
        self._write_header()


def load_array(path: str | Path, mapped: bool = False, whole: Path | None = None) -> np.ndarray:
    """Read a .npy file, or map it into memory if `mapped`.

    Raises DamagedFileError if it is no .npy file or is cut short. The message says to delete it, or `whole`,
    the folder that it was made with.
    """
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except (ValueError, EOFError) as error:
        raise DamagedFileError(
            f"{path}: not a complete array ({error}); delete {whole or 'it'} and run again"
        ) from None
