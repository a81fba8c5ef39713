"""Opens files that may be compressed as streams of their content."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from cpt.corpus.encodings import pointed_to
from cpt.errors import UserError

_LARGEST_WINDOW = 2**31
_CHUNK = 4096  # bytes; each may unpack to 128 MiB


def _zstandard() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()


# The first bytes of compressed files. Content decides, not the name: servers may compress or decompress.
_GZIP = b"\x1f\x8b"
_PACKED = {b"BZh": bz2.BZ2Decompressor, b"\xfd7zXZ\0": lzma.LZMADecompressor, b"\x28\xb5\x2f\xfd": _zstandard}
_PACKED |= {bytes([sign]) + b"\x2a\x4d\x18": _zstandard for sign in range(0x50, 0x60)}  # skippable frames


class _Frames(io.RawIOBase):
    """Reads all frames of a file, one after the other; zeros between or after them are skipped.

    The libraries' own readers end silently where zstd is cut short, and stop at zeros after xz.
    """

    def __init__(self, file: BinaryIO, decompressor: Callable[[], Any]):
        self.file, self.decompressor = file, decompressor
        self.frame, self.ready, self.rest = None, memoryview(b""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self.ready:
            chunk = self.rest or self.file.read(_CHUNK)
            if not chunk and self.frame:
                raise EOFError("the last frame is cut short")
            if not chunk:
                return 0
            if self.frame is None:
                self.rest = b""
                if not (chunk := chunk.lstrip(b"\0")):
                    continue
                self.frame = self.decompressor()
            self.ready = memoryview(self.frame.decompress(chunk))
            self.rest = self.frame.unused_data
            if self.frame.eof:
                self.frame = None
        size = min(len(buffer), len(self.ready))
        buffer[:size], self.ready = self.ready[:size], self.ready[size:]
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def _opened(path: Path) -> BinaryIO:
    file = open(path, "rb")  # noqa: SIM115
    beginning = file.peek(64)[:64]
    if pointer := pointed_to(beginning):
        file.close()
        raise UserError(f"{path}: {pointer}")
    if beginning.startswith(_GZIP):
        file.close()
        return gzip.open(path)
    for mark, decompressor in _PACKED.items():
        if beginning.startswith(mark):
            return io.BufferedReader(_Frames(file, decompressor), 2**20)
    return file


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """A stream of a file's content, decompressed if it is gzip, zstd (any window), bzip2 or xz.

    Raises UserError, also while it is read, if the file is damaged or only a pointer to its content.
    """
    try:
        with _opened(path) as stream:
            yield stream
    except (OSError, EOFError, zstandard.ZstdError, lzma.LZMAError, gzip.zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "memory" in str(error):
            raise UserError(
                f"{path}: it was packed with a larger window than the memory allows; write it again: "
                "zstd -d --long=31 FILE, then zstd FILE"
            ) from None
        raise UserError(f"{path}: can't be read to its end ({error}); fetch or make it again") from None
