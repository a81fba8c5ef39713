"""Own files at an address: `https://`, `s3://`, `hf://`, or any other that fsspec has a driver for."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import fsspec
import httpx2
from fsspec.registry import known_implementations
from huggingface_hub.errors import HfHubHTTPError

from cpt.corpus.readers import require_readers
from cpt.corpus.remote import (
    TRANSIENT_STATUSES,
    CutShort,
    append,
    bring,
    call_with_retries,
    described,
    status_of,
    stream_file,
)
from cpt.errors import UserError
from cpt.progress import Progress

BLOCK_BYTES = 2**20
HTTP = ("http://", "https://")
Result = TypeVar("Result")


class Address(NamedTuple):
    """A remote file: its full address, its driver, and the driver's name for the file."""

    url: str
    system: fsspec.AbstractFileSystem
    path: str

    @property
    def name(self) -> str:
        """The last part of the path, without a query."""
        return PurePosixPath(urlsplit(self.url).path).name


def is_address(pattern: str) -> bool:
    """Whether a pattern is an address, not a path in this machine's file system."""
    return "://" in pattern


def matching_addresses(pattern: str, corpus: str) -> list[Address]:
    """All files that match, sorted; in an `http(s)://` address only `*` is a wildcard.

    Raises UserError if the driver is missing, nothing matches, a file has no reader, or access fails.
    """
    where = f"corpora.{corpus}.files: {pattern}"
    scheme = pattern.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(pattern)
    except (ImportError, ValueError):
        advice = known_implementations.get(scheme, {}).get("err")
        problem = (
            f"the driver is not installed ({advice})" if advice else f"fsspec knows no driver for {scheme}://"
        )
        raise UserError(
            f"{where}: {problem}; add it to the environment, or fetch the files yourself"
        ) from None
    wildcards = "*" if pattern.startswith(HTTP) else "*?["
    named = not any(sign in path for sign in wildcards)
    if not named and not pattern.startswith(HTTP):  # a file's name may contain wildcard characters
        named = _call_patiently(where, lambda: system.isfile(path))
    paths = [path] if named else sorted(_call_patiently(where, lambda: system.glob(path)))
    if not paths:
        raise UserError(f"{where}: no file matches; correct the pattern")
    addresses = [Address(system.unstrip_protocol(path), system, path) for path in paths]
    require_readers((address.url.partition("?")[0] for address in addresses), f"corpora.{corpus}.files")
    return addresses


def fetch_address(address: Address, folder: Path, corpus: str) -> Path:
    """Copy a file into `folder`, resuming an earlier download; only its size is verified.

    The local name hashes what the driver reports (size, ETag, time of change), so a changed file is
    fetched from its beginning. Raises UserError if it can't be fetched.
    """
    where = f"corpora.{corpus}.files: {address.url}"
    info = _call_patiently(where, lambda: address.system.info(address.path))
    size = info.get("size")
    if info["type"] != "file" or size is None:
        raise UserError(f"{where}: not a file of known size; fetch it yourself and give its path here")
    identity = json.dumps([address.url, info], sort_keys=True, default=str)
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}-{address.name}"
    try:
        if address.url.startswith(HTTP):
            stream_file(address.url, {}, path, size, where)
        else:
            bring(path, size, where, lambda path, progress: _fetch_rest(address, path, size, progress, where))
    except (httpx2.HTTPError, HfHubHTTPError, CutShort) as error:
        raise UserError(f"{where}: {described(error)}; try again later (what was fetched is kept)") from None
    return path


def _fetch_rest(address: Address, path: Path, size: int, progress: Progress, where: str) -> None:
    present = path.stat().st_size

    def blocks() -> Iterator[bytes]:
        with _explain_errors(where), address.system.open(address.path, "rb") as remote:
            remote.seek(present)
            yield from iter(lambda: remote.read(BLOCK_BYTES), b"")

    with path.open("r+b", buffering=0) as file:
        append(file, blocks(), present, size, progress)


def _call_patiently(where: str, call: Callable[[], Result]) -> Result:
    def attempt() -> Result:
        with _explain_errors(where):
            return call()

    try:
        return call_with_retries(where, attempt)
    except CutShort as error:
        raise UserError(f"{where}: {error}; try again later") from None


@contextmanager
def _explain_errors(where: str) -> Iterator[None]:
    """Turn a driver's transient errors into CutShort, others into UserError; their text may hold secrets."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file; correct the address") from None
    except Exception as error:
        status = getattr(error, "status", None) or status_of(error)
        reason = f"the server answered {status}" if status else f"the driver failed ({type(error).__name__})"
        passing = (OSError, httpx2.TransportError)
        if status in TRANSIENT_STATUSES or (
            not status and isinstance(error, passing) and not isinstance(error, PermissionError)
        ):
            raise CutShort(reason) from None
        raise UserError(
            f"{where}: {reason}; check the address and the credentials that the driver reads"
        ) from None
