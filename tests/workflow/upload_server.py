"""A stand-in for the part of the Hugging Face hub's HTTP API that takes a model."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

LARGE = (".safetensors", ".gguf")


class UploadServer:
    """`with UploadServer() as hub:` keeps what is committed, by repository, branch and path.

    `hub.repository` is the last one requested, `hub.branches` its branches, `hub.files` those of main.
    `refused` is the status that answers each request for a change; 0 accepts them. `hub.asked` are all
    requests as (method, path), `hub.tokens` their tokens, `hub.commits` the messages.
    """

    def __init__(self, refused: int = 0) -> None:
        self.refused = refused
        self.repository, self.private = "", False
        self.stored: dict[str, dict[str, dict[str, bytes]]] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.commits: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads, self.server.hub = True, self
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def branches(self) -> dict[str, dict[str, bytes]]:
        return self.stored.get(self.repository, {"main": {}})

    @property
    def files(self) -> dict[str, bytes]:
        return self.branches["main"]

    def __enter__(self) -> "UploadServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def commit(self) -> str:
        return f"{len(self.commits):040x}"

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and content of the hub's answer to a POST."""
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if self.refused:
            return self.refused, {"error": "no"}
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            exists, self.repository = name in self.stored, name
            self.stored.setdefault(name, {"main": {}})
            self.private = self.private if exists else request["visibility"] == "private"
            return 409 if exists else 200, {"url": f"{self.url}/{self.repository}", "id": self.repository}
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.url}/large/{item['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}
        match = re.fullmatch(rf"/api/models/{re.escape(self.repository)}/([\w-]+)/(\w+)", path)
        if match is None:
            return 404, {"error": "not found"}
        if match[1] == "branch":
            exists = match[2] in self.branches
            self.branches.setdefault(match[2], dict(self.files))
            return 409 if exists else 200, {}
        return self.answer_on_branch(match[1], self.branches[match[2]], body)

    def answer_on_branch(self, action: str, files: dict[str, bytes], body: bytes) -> tuple[int, Any]:
        if action == "paths-info":
            paths = parse_qs(body.decode()).get("paths", [])
            return 200, [entry(path, files[path]) for path in paths if path in files]
        if action == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            listed = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]
            return 200, {"files": listed}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
        url = f"{self.url}/{self.repository}/commit/{self.commit}"
        return 200, {"commitUrl": url, "commitOid": self.commit}


def entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as the hub's tree shows it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    fields = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        fields["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return fields


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, status: int, answer: Any) -> None:
        path = self.path.partition("?")[0]
        self.server.hub.asked.append((self.command, path))
        if not path.startswith("/large/"):
            self.server.hub.tokens.add(self.headers.get("Authorization"))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.send(*self.server.hub.answer(self.path.partition("?")[0], self.body()))

    def do_PUT(self) -> None:
        self.server.hub.large[re.fullmatch(r"/large/(\w+)", self.path)[1]] = self.body()
        self.send(200, {})

    def do_GET(self) -> None:
        hub = self.server.hub
        if re.fullmatch(
            rf"/api/models/{re.escape(hub.repository)}/revision/\w+", self.path.partition("?")[0]
        ):
            return self.send(200, {"id": hub.repository, "sha": hub.commit, "siblings": [], "tags": []})
        return self.send(404, {"error": "not found"})
