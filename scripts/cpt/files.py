"""Files that are either complete or absent: temporary name, sync, rename."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpt.digest import plain
from cpt.errors import DamagedFileError, UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Flush a file or a folder entry to disk, so that a rename after it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk into a UserError that names `path`, the file or folder that is being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(
            f"{path}: can't be written ({os.strerror(error.errno)}); make room in {path.parent}, or set "
            "`results` to a larger disk, then run again"
        ) from error


def _follow_umask(temporary: Path) -> None:
    """Give files that a library made readable only by their owner (safetensors, tempfile) the usual mode.

    The usual mode is that of a new file in the same folder, which umask and the folder's default ACL decide.
    """
    paths = [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]
    own = [path for path in paths if path.is_file() and path.stat().st_uid == os.geteuid()]
    private = [path for path in own if not stat.S_IMODE(path.stat().st_mode) & 0o077]
    if private:
        probe = temporary.with_name(f"{temporary.name}.mode")
        probe.touch()
        usual = stat.S_IMODE(probe.stat().st_mode)
        probe.unlink()
        for path in private:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | usual)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    Works for a file and for a folder (create the yielded path as a folder). On any error the
    temporary is removed and `path` keeps its former content. A leftover of a killed process is
    overwritten by the next attempt. Raises UserError if the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = (path.with_name(f".{path.name}.{state}") for state in ("incomplete", "replaced"))
    _remove(temporary)
    _remove(replaced)
    try:
        with writing(path):
            yield temporary
            _follow_umask(temporary)
            if temporary.is_dir():
                for child in sorted(temporary.rglob("*")):
                    sync(child)
                sync(temporary)
                if path.exists():  # deleting it here would leave half a folder for a while
                    path.rename(replaced)
            else:
                sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        _remove(replaced)
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def scratch(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` for files needed only while `path` is made.

    The folder is removed at the end; the next attempt removes what a killed process left. Raises UserError
    if the disk is full.
    """
    folder = Path(path).with_name(f".{Path(path).name}.scratch")
    _remove(folder)
    folder.mkdir(parents=True)
    try:
        with writing(folder):
            yield folder
    finally:
        _remove(folder)


def link(source: Path, path: Path) -> None:
    """Make a hard link, which takes no disk space, or a copy if the file system has no hard links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value`, which may hold sections of the config, as indented JSON, atomically. Raises ValueError
    for NaN and infinity."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=plain)
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises DamagedFileError if it isn't valid JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{path}: not complete JSON ({error}); delete it and run again") from None


def sha256_of(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes as hex, without reading the whole file into memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_for_each(keys: Iterable[Any], files: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Pair each key with its file; `files` are in the order of the keys.

    Raises UserError if there are more or fewer files than keys.
    """
    keys = list(keys)
    if len(keys) != len(files):
        shown = ", ".join(map(str, files[:3])) or "none"
        raise UserError(
            f"expected {len(keys)} files, one for each of {keys[:3]} ..., but got {len(files)}: {shown}"
        )
    return zip(keys, files, strict=True)
