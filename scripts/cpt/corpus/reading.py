"""Runs readers in a process with limited memory and time, since files may be damaged or hostile."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from cpt.corpus.readers import READERS, format_of
from cpt.corpus.unpacking import unpacked
from cpt.corpus.works import cut
from cpt.errors import UserError

MEMORY_BYTES = 2**30  # of the process, libraries included
FILE_BYTES = 2**28  # of a file's unpacked content
DEEPEST = 10_000  # nested calls; each level of nested elements takes some
SECONDS = 300  # for one file
REMEDY = "split or remove the file, or set the corpus's key `unreadable: skip`"


class ReadWork(NamedTuple):
    """The content of a file: its documents as (title, text), in order.

    `without_text` names pages and figures that are only images. `replaced` counts characters that are
    invalid in the file's encoding.
    """

    documents: list[tuple[str, str]]
    without_text: list[str]
    replaced: int


class ReadingProcess:
    """One process for many files, restarted after it had to be ended. Use it in `with`."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS):
        self.memory_bytes, self.seconds = memory_bytes, seconds
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "ReadingProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def read(self, path: Path) -> ReadWork:
        """The documents of a file. Raises UserError, naming it, if it can't be read within the limits."""
        if self.process is None:
            self._start()
        try:
            self.connection.send_bytes(os.fsencode(path.absolute()))
            about = json.loads(self._answer(path))
            if about.get("out_of_memory"):  # the next file may need the memory that this one holds
                self._end()
            if "error" in about:
                raise UserError(f"{path}: {about['error']}")
            texts = [self._answer(path).decode() for _ in about["titles"]]
        except (EOFError, OSError):
            status = self._end()
            killed = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            raise UserError(
                f"{path}: its reader failed ({killed}), out of memory or on damage; {REMEDY}"
            ) from None
        return ReadWork(
            list(zip(about["titles"], texts, strict=True)), about["without_text"], about["replaced"]
        )

    def _answer(self, path: Path) -> bytes:
        if not self.connection.poll(self.seconds):
            self._end()
            raise UserError(f"{path}: it takes longer than {self.seconds:g} seconds to read; {REMEDY}")
        return self.connection.recv_bytes()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        scripts = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-m", "cpt.corpus.reading", str(theirs.fileno()), str(self.memory_bytes)]
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": scripts},
        )
        theirs.close()
        self.connection = Connection(ours.detach())

    def _end(self) -> int:
        if self.process is None:
            return 0
        self.connection.close()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
        status, self.process = self.process.wait(), None
        return status


def serve(connection: Connection) -> None:
    """Read files whose names arrive over the connection, until it closes."""
    while True:
        try:
            path = Path(os.fsdecode(connection.recv_bytes()))
        except EOFError:
            return
        texts: list[str] = []
        try:
            about, texts = _read(path)
        except UserError as error:
            about = {"error": str(error).removeprefix(f"{path}: ")}
        except ModuleNotFoundError as error:
            about = {"error": f"its reader needs {error.name}; run: pip install -r envs/requirements.txt"}
        except (MemoryError, ImportError):  # for lack of memory a library may fail to load
            message = f"it takes more memory than its reader may use; {REMEDY}"
            about = {"error": message, "out_of_memory": True}
        except Exception as error:  # any library may raise anything on a damaged file
            reason = f"{type(error).__name__}: {error}"[:200]
            about = {"error": f"it is damaged, or its reader doesn't know its like ({reason}); {REMEDY}"}
        connection.send_bytes(json.dumps(about).encode())
        for text in texts:
            connection.send_bytes(text.encode())


def _read(path: Path) -> tuple[dict, list[str]]:
    with unpacked(path) as stream:
        parts: list[bytes] = []  # a single read would allocate the limit for any file
        while (part := stream.read(2**20)) and len(parts) <= FILE_BYTES // 2**20:
            parts.append(part)
    content = b"".join(parts)
    del parts
    if len(content) > FILE_BYTES:
        raise UserError(f"it has more than {FILE_BYTES // 2**20} MiB when it is unpacked; {REMEDY}")
    work = READERS[format_of(path.name)].checked(content)
    del content
    documents = cut(work)
    about = {"titles": [title for title, _ in documents], "without_text": work.without_text}
    return {**about, "replaced": work.replaced}, [text for _, text in documents]


def main() -> None:
    """The process's entry point; arguments: the connection's descriptor, and the limit of memory in bytes."""
    descriptor, memory_bytes = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(DEEPEST)
    serve(Connection(descriptor))


if __name__ == "__main__":
    main()
