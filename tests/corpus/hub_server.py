"""A stand-in for the Hugging Face hub's HTTP API: one dataset repository, and faults on demand.

Serves what the official client asks for (repository, tree, file) with the hub's headers and error codes.
Large files are redirected to a second address, as the hub redirects to its content network. Standard
library only.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"
BLOCK = 16_384
LARGE = (".parquet", ".gz", ".zst")


class Fault(NamedTuple):
    """What goes wrong with one request; `on` is its kind: `info`, `tree`, `hub` or `file` (a file's bytes).

    kinds: `status` (an error with `status`, `headers` and `body`), `disconnect` (no answer), `reset` and
    `cut` (connection broken, or closed early, after `at` bytes), `short` (an answer that announces and holds
    only `at` bytes), `stall` (silence after `at` bytes), `wrong-bytes` (byte `at` differs), `longer` (extra
    bytes), `whole` (`Range` is ignored), `other-part` (not the requested part), `wrong-etag`, `text`
    (an answer that isn't JSON).
    """

    kind: str
    on: str = "file"
    at: int = 0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """A request as the server saw it; `sent` counts the bytes of the body."""

    on: str
    path: str
    range: str | None
    status: int
    sent: int
    authorization: str | None


class HubServer:
    """`with HubServer("owner/name", files) as hub:` serves `files` (path to bytes) at `hub.url`."""

    def __init__(self, repo: str, files: dict[str, bytes], card: dict | None = None):
        self.repo, self.files, self.card = repo, files, card or {}
        self.faults: deque[Fault] = deque()
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.stalled = threading.Event()  # set at the end, so that all threads finish
        self.holding = threading.Event()  # set once a stall holds a request
        self.page = 1000
        self.pause = 0.0  # seconds after each block of a body
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server in self.servers:
            server.daemon_threads, server.block_on_close, server.hub = True, False, self
        self.url, self.network = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)

    def __enter__(self) -> "HubServer":
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stalled.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def next_fault(self, on: str) -> Fault | None:
        """The next planned fault, if it is for this kind of request."""
        with self.lock:
            return self.faults.popleft() if self.faults and self.faults[0].on == on else None

    def entry(self, path: str) -> dict:
        """A file as the hub's tree shows it."""
        content = self.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def tree(self, folder: str) -> list[dict]:
        """All entries below a folder, folders included."""
        inside = [path for path in sorted(self.files) if path.startswith(folder)]
        folders = {path.rpartition("/")[0] for path in inside} - {"", folder.rstrip("/")}
        directory = {"type": "directory", "size": 0, "oid": "0" * 40}
        return [{**directory, "path": path} for path in sorted(folders)] + [
            self.entry(path) for path in inside
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def note(self, on: str, status: int, sent: int = 0) -> None:
        token = self.headers.get("Authorization")
        with self.hub.lock:
            self.hub.requests.append(Request(on, self.path, self.headers["Range"], status, sent, token))

    def answer(self, on: str, status: int, value: object, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.note(on, status)
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, on: str, status: int, code: str, **headers: str) -> None:
        """An error whose text repeats the request's headers, as some proxies' errors do."""
        text = f"{code}: {dict(self.headers)}"
        self.answer(on, status, {"error": text}, X_Error_Code=code, X_Error_Message=text, **headers)

    def faulty(self, on: str, fault: Fault | None) -> bool:
        """Whether the fault replaced the answer."""
        if fault is None:
            return False
        if fault.kind == "status":
            headers = dict(fault.headers)
            self.error(on, fault.status, headers.pop("X-Error-Code", ""), **headers)
        elif fault.kind == "text":
            self.answer(on, 200, b"<html>Please sign in</html>")
        elif fault.kind == "disconnect":
            self.note(on, 0)
            self.close_connection = True
        elif fault.kind == "stall" and on != "file":
            self.note(on, 0)
            self.hub.holding.set()
            self.hub.stalled.wait()
            self.close_connection = True
        else:
            return False
        return True

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.server is self.hub.servers[1]:
            return self.file(path.removeprefix("/bytes/"))
        repo = re.escape(self.hub.repo)
        if match := re.fullmatch(rf"/api/datasets/{repo}/revision/([^/]+)", path):
            return self.info(match[1])
        if match := re.fullmatch(rf"/api/datasets/{repo}/tree/(?:main|{COMMIT})(?:/(.+))?", path):
            return self.tree((match[1] or "").rstrip("/"))
        if match := re.fullmatch(rf"/datasets/{repo}/resolve/(?:main|{COMMIT})/(.+)", path):
            return self.resolve(match[1])
        return self.error("none", 404, "RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """The records of some paths."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = parse_qs(body).get("paths", [])
        records = [self.hub.entry(path) for path in paths if path in self.hub.files]
        records += [
            {"type": "directory", "path": path, "oid": "0" * 40}
            for path in paths
            if self.hub.tree(f"{path}/")
        ]
        self.answer("paths", 200, records)

    def info(self, revision: str) -> None:
        if self.faulty("info", self.hub.next_fault("info")):
            return
        if revision not in ("main", COMMIT):
            return self.error("info", 404, "RevisionNotFound")
        files = [{"rfilename": name} for name in sorted(self.hub.files)]
        body = {"id": self.hub.repo, "sha": COMMIT, "siblings": files, "tags": [], "downloads": 0, "likes": 0}
        self.answer("info", 200, {**body, "private": False, "gated": False, "cardData": self.hub.card})

    def tree(self, folder: str) -> None:
        if self.faulty("tree", self.hub.next_fault("tree")):
            return
        entries = self.hub.tree(f"{folder}/" if folder else "")
        if not entries:
            return self.error("tree", 404, "EntryNotFound")
        address = urlsplit(self.path)
        cursor = re.search(r"cursor=(\d+)", address.query)
        begin = int(cursor[1]) if cursor else 0
        end = begin + self.hub.page
        link = f'<{self.hub.url}{address.path}?recursive=true&cursor={end}>; rel="next"'
        self.answer("tree", 200, entries[begin:end], **({"Link": link} if end < len(entries) else {}))

    def resolve(self, path: str) -> None:
        fault = self.hub.next_fault("hub")
        if self.faulty("hub", fault):
            return
        if path not in self.hub.files:
            return self.error("hub", 404, "EntryNotFound")
        entry = self.hub.entry(path)
        if "lfs" not in entry:
            return self.file(path)
        etag = "0" * 64 if fault and fault.kind == "wrong-etag" else entry["lfs"]["oid"]
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"'}
        headers["X-Linked-Size"] = str(entry["size"])
        self.answer("hub", 302, b"", Location=f"{self.hub.network}/bytes/{path}", **headers)

    def file(self, path: str) -> None:
        fault = self.hub.next_fault("file") or Fault("none")
        if self.faulty("file", fault):
            return
        content, status = self.hub.files[path], 200
        size, begin = len(content), 0
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if requested and fault.kind != "whole":
            begin, status = int(requested[1]), 206
            if begin >= size:
                return self.error("file", 416, "RangeNotSatisfiable")
            if fault.kind == "other-part":
                begin -= 1
        if fault.kind == "wrong-bytes":
            content = content[: fault.at] + bytes([content[fault.at] ^ 255]) + content[fault.at + 1 :]
        end = min(size, int(requested[2]) + 1) if requested and requested[2] else size
        body = content[begin:end] + (b"more" if fault.kind == "longer" else b"")
        self.send_body(fault, body, status, f"bytes {begin}-{end - 1}/{size}", path)

    def send_body(self, fault: Fault, body: bytes, status: int, part: str, path: str) -> None:
        sent = min(fault.at, len(body)) if fault.kind in ("reset", "cut", "short", "stall") else len(body)
        etag = hashlib.md5(body).hexdigest() if fault.kind == "wrong-etag" else self.hub.entry(path)["oid"]
        self.note("file", status, sent)
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 206:
            self.send_header("Content-Range", part)
        self.send_header("Content-Length", str(sent if fault.kind == "short" else len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for position in range(0, sent, BLOCK):
            self.wfile.write(body[position : min(sent, position + BLOCK)])
            self.hub.stalled.wait(self.hub.pause)
        if fault.kind == "stall":
            self.hub.holding.set()
            self.hub.stalled.wait()
        if fault.kind == "reset":  # closing with a linger of 0 seconds sends RST instead of FIN
            threading.Event().wait(0.1)  # an RST discards what the client hasn't read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if sent < len(body) and fault.kind != "short":  # a short answer is whole as far as HTTP can tell
            self.close_connection = True
