"""A stand-in for the part of the Hugging Face hub's HTTP API that takes a model."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class UploadServer:
    """`with UploadServer() as hub:` keeps in `hub.files` what is committed to `hub.repository`, by path."""

    def __init__(self) -> None:
        self.repository = ""
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads, self.server.hub = True, self
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "UploadServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any] | None:
        """What the hub answers to a POST; None for an address that it doesn't have."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.repository = f"{asked['organization']}/{asked['name']}"
            return {"url": f"{self.url}/{self.repository}", "id": self.repository}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == f"/api/models/{self.repository}/preupload/main":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            return {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}
        if path == f"/{self.repository}.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.url}/large/{item['oid']}"}}
            return {"transfer": "basic", "objects": objects}
        if path == f"/api/models/{self.repository}/commit/main":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.large[value["oid"]]
            return {"commitUrl": f"{self.url}/{self.repository}/commit/{COMMIT}", "commitOid": COMMIT}
        return None


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

    def send(self, status: int, answer: dict[str, Any] | None) -> None:
        content = json.dumps(answer or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        answer = self.server.hub.answer(self.path.partition("?")[0], self.body())
        self.send(404 if answer is None else 200, answer)

    def do_PUT(self) -> None:
        self.server.hub.large[re.fullmatch(r"/large/(\w+)", self.path)[1]] = self.body()
        self.send(200, {})

    def do_GET(self) -> None:
        self.send(404, {"error": "not found"})
