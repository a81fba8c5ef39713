"""Downloads over an unreliable network: bounded retries, back-off, files that resume after a cut."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers

from cpt.errors import UserError
from cpt.files import writing
from cpt.progress import Progress

TRIES = 8
FIRST_WAIT = 1.0
# The hub counts requests in windows of five minutes; no longer wait is accepted.
LONGEST_WAIT = 600.0
# A try that fetches this much restarts the count of failures: a large file may take any number of tries.
PROGRESS_BYTES = 2**20
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
Result = TypeVar("Result")


class CutShort(Exception):
    """A transient failure: a response ended early or began at the wrong position, or a driver failed."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error, or None."""
    return getattr(getattr(error, "response", None), "status_code", None)


def described(error: Exception) -> str:
    """A phrase on an error, without the server's text: that may repeat the request's headers and token."""
    if status := status_of(error):
        return f"the server answered {status}"
    if isinstance(error, CutShort):
        return str(error)
    if isinstance(error, httpx2.ConnectError):
        return "the server can't be reached (ConnectError)"
    if isinstance(error, httpx2.TimeoutException):
        return f"the server fell silent ({type(error).__name__})"
    return f"the connection broke ({type(error).__name__})"


def _transient(error: Exception) -> bool:
    kinds = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, CutShort)
    return isinstance(error, kinds) or status_of(error) in TRANSIENT_STATUSES


def asked_wait(error: Exception) -> float:
    """Seconds that the server asks to wait, by `Retry-After` (seconds or a date) or the hub's `RateLimit`."""
    if status_of(error) not in TRANSIENT_STATUSES:
        return 0.0
    headers = error.response.headers
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        limit = parse_ratelimit_headers(headers)
        return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else 0.0


def _limit_silence(request: httpx2.Request) -> None:
    request.extensions["timeout"] = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT).as_dict()


def session() -> httpx2.Client:
    """The hub client's own session, with a timeout for every request.

    The client's listing calls have no timeout, so a hook sets that of its downloads:
    `HF_HUB_DOWNLOAD_TIMEOUT`, 10 seconds. The client makes a new session after a failed connection.
    """
    client = get_session()
    hooks = client.event_hooks
    if _limit_silence not in hooks["request"]:
        client.event_hooks = {**hooks, "request": [*hooks["request"], _limit_silence]}
    return client


def call_with_retries(
    what: str, call: Callable[[], Result], brought: Callable[[], int] = lambda: 0
) -> Result:
    """The result of `call`, retried after transient failures, up to `TRIES` in a row.

    A try in which `brought` grows by `PROGRESS_BYTES` restarts the count of failures. Waits 1, 2, 4, ...
    seconds after failures, or as long as the server asks. The waits aren't random, so that the same faults
    give the same behaviour. Raises the last try's error, or UserError if the server asks to wait too long.
    """
    failures = 0
    while True:
        before = brought()
        try:
            session()
            return call()
        except (httpx2.HTTPError, HfHubHTTPError, CutShort) as error:
            failures = 1 + (failures if brought() - before < PROGRESS_BYTES else 0)
            if not _transient(error) or failures == TRIES:
                raise
            wait, reason = asked_wait(error), described(error)
            if wait > LONGEST_WAIT:
                raise UserError(
                    f"{what}: {reason} and asks to wait {wait:,.0f} seconds; "
                    "run again after that (what was fetched is kept)"
                ) from None
        seconds = max(FIRST_WAIT * 2 ** (failures - 1), wait)
        logging.warning("%s: %s; try %d of %d in %g s", what, reason, failures + 1, TRIES, seconds)
        time.sleep(seconds)


def folder_of_parts(raw: Path) -> Path:
    """The folder of a raw shard's downloads; it is removed when the shard is complete."""
    return raw.with_name(f".{raw.name}.download")


def bring(path: Path, size: int, what: str, one_try: Callable[[Path, Progress], None]) -> None:
    """Fetch `path` up to `size` bytes; each try resumes at the file's end. The content isn't checked.

    Raises UserError if the disk is too small or full, and the last try's error after `TRIES` failures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    if path.stat().st_size > size:
        path.write_bytes(b"")
    present = path.stat().st_size
    free = shutil.disk_usage(path.parent).free
    if size - present > free:
        raise UserError(
            f"{what}: {size - present:,} bytes are to come, but only {free:,} are free in {path.parent}; "
            "make room or set `results` to a larger disk"
        )
    if present:
        logging.info("%s: resumes after %s of %s bytes", what, f"{present:,}", f"{size:,}")
    with writing(path), Progress(what, total=size, unit="bytes", done=present) as progress:

        def attempt() -> None:
            one_try(path, progress)
            if path.stat().st_size < size:
                raise CutShort("the server sent less than the whole file")

        if present < size:
            call_with_retries(what, attempt, lambda: path.stat().st_size)


def stream_file(url: str, headers: dict[str, str], path: Path, size: int, what: str) -> None:
    """Fetch `path` up to `size` bytes from `url`, without requesting again the bytes it has.

    Each byte is written as it arrives, so a killed process loses none. Raises as `bring` does.
    """

    def one_try(path: Path, progress: Progress) -> None:
        present = path.stat().st_size
        # An encoded body would have neither the file's length nor its hash.
        asked = {**headers, "Accept-Encoding": "identity"} | (
            {"Range": f"bytes={present}-"} if present else {}
        )
        with session().stream("GET", url, headers=asked) as response, path.open("r+b", buffering=0) as file:
            if response.status_code == 416:  # the server's file is shorter than ours, so ours is wrong
                file.truncate(0)
                raise CutShort("the server has no more of the file")
            hf_raise_for_status(response)
            if response.status_code == 206:
                begin = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
                if begin != str(present):
                    raise CutShort("the server sent another part than was asked for")
            else:  # the whole file, even if only the rest was requested
                file.truncate(0)
                progress.advance(-present)
                present = 0
            append(file, response.iter_raw(), present, size, progress)

    bring(path, size, what, one_try)


def append(file: FileIO, blocks: Iterable[bytes], present: int, size: int, progress: Progress) -> None:
    """Write blocks from position `present` on, as they arrive; CutShort if they exceed `size`."""
    file.seek(present)
    for block in blocks:
        present += len(block)
        if present > size:
            raise CutShort("the server sent more than the whole file")
        rest = memoryview(block)
        while rest:  # a nearly full disk takes a part of a block before it raises
            rest = rest[file.write(rest) :]
        progress.advance(len(block))
