"""NumPy's .npy files, written so that nothing can be missing and read so that damage is told."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from cpt.errors import DamagedFileError


def save_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write a C-contiguous array to an open file, the bytes that `np.save` would write.

    On a full disk NumPy 2.4's `save` and `tofile` may leave out the last bytes without an error: they don't
    look at what closing C's buffered file returns.
    """
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array)


def load_array(path: str | Path, mapped: bool = False) -> np.ndarray:
    """Read a .npy file, or map it into memory; DamagedFileError if it isn't one, or is cut short."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except (ValueError, EOFError) as error:
        raise DamagedFileError(f"{path}: not a complete array ({error}); delete it and run again") from None
