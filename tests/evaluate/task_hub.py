"""A stand-in for the hub that serves the data sets of task_data.py, each at one commit only."""

import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import task_data
import yaml
from huggingface_hub import constants
from task_facts import Row

GATED = "Idavidrein/gpqa"


def repository_files(configurations: dict[str, dict[str, list[Row]]]) -> dict[str, bytes]:
    """The files of a data set's repository: a Parquet file for each split, and a card that names them."""
    files, described = {}, []
    for name, splits in configurations.items():
        for split, rows in splits.items():
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), buffer)
            files[f"{name}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
        data_files = [{"split": split, "path": f"{name}/{split}-*"} for split in splits]
        described.append({"config_name": name, "data_files": data_files})
    files["README.md"] = f"---\n{yaml.safe_dump({'configs': described})}---\n".encode()
    return files


def _commit(files: dict[str, bytes]) -> str:
    """A stand-in for a commit. Caches of data sets use it as a key, so it follows from the content."""
    return hashlib.sha1(b"".join(content for _, content in sorted(files.items()))).hexdigest()


class TaskHub:
    """`with TaskHub(cache) as hub:` serves at `hub.url`; clients keep their downloads in `cache`.

    `revisions` has the commit of each repository. A repository in `gated` asks for a token. Without `main`
    the hub serves the commits only, and refuses any other revision.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.files = {name: repository_files(rows) for name, rows in task_data.tables().items()}
        self.files |= task_data.files()
        self.revisions = {name: _commit(files) for name, files in self.files.items()}
        self.gated, self.main = {GATED}, True
        self.asked: list[str] = []  # paths of all requests
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        self.server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "TaskHub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    @contextlib.contextmanager
    def online(self) -> Iterator[None]:
        """Make the hub's client and `datasets` use this hub, as HF_ENDPOINT does; otherwise they use none."""
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, self.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", "hf_of_a_test")
            patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            patch.setattr(constants, "ENDPOINT", self.url)
            patch.setattr(constants, "HF_HUB_CACHE", str(self.cache / "hub"))
            patch.setattr(constants, "HF_HUB_OFFLINE", False)
            patch.setattr(datasets.config, "HF_ENDPOINT", self.url)
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", self.cache / "datasets")
            patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
            yield

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": blob}


def _entries(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """What the hub's tree shows below a folder ("" or with a slash at its end)."""
    paths = [path for path in sorted(files) if path.startswith(folder)]
    parents = {folder + path[len(folder) :].partition("/")[0] for path in paths if "/" in path[len(folder) :]}
    folders = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(parents)]
    shown = [path for path in paths if recursive or "/" not in path[len(folder) :]]
    return folders + [_entry(path, files[path]) for path in shown]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def reply(self, status: int, value: object, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            self.server.hub.asked.append(self.path)
        return parsed

    def repository(self, parts: list[str], index: int) -> tuple[str, dict[str, bytes], str] | None:
        """Name, files and commit of the repository in a path, if it has the revision at `index`."""
        hub, name = self.server.hub, "/".join(parts[:2])
        if name not in hub.files:
            return self.refuse(404, "RepoNotFound")
        if name in hub.gated and not self.headers.get("Authorization"):
            return self.refuse(401, "GatedRepo")
        commit = hub.revisions[name]
        revision = parts[index] if len(parts) > index else "main"
        if revision != commit and not (hub.main and revision == "main"):
            return self.refuse(404, "RevisionNotFound")
        return name, hub.files[name], commit

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        if parts[:2] == ["api", "datasets"]:
            if repository := self.repository(parts[2:], 3):
                self.api(parts[4:], *repository, recursive="recursive=true" in address.query.lower())
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            if repository := self.repository(parts[1:], 3):
                self.file("/".join(parts[5:]), *repository[1:])
        else:
            self.refuse(404, "RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if repository := self.repository(parts[2:], 3):
            files, paths = repository[1], parse_qs(body).get("paths", [])
            entries = [_entry(path, files[path]) for path in paths if path in files]
            entries += [
                e for e in _entries(files, "", False) if e["path"] in paths and e["type"] == "directory"
            ]
            self.reply(200, entries)

    def api(self, rest: list[str], name: str, files: dict[str, bytes], commit: str, recursive: bool) -> None:
        if rest[:1] == ["tree"]:
            folder = "/".join(rest[2:])
            entries = _entries(files, f"{folder}/" if folder else "", recursive)
            return self.reply(200, entries) if entries else self.refuse(404, "EntryNotFound")
        siblings = [{"rfilename": path} for path in sorted(files)]
        described = {"id": name, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        return self.reply(200, {**described, "private": False, "gated": name in self.server.hub.gated})

    def file(self, path: str, files: dict[str, bytes], commit: str) -> None:
        if path not in files:
            return self.refuse(404, "EntryNotFound")
        headers = {"ETag": f'"{_entry(path, files[path])["oid"]}"', "X_Repo_Commit": commit}
        return self.reply(200, files[path], Content_Type="application/octet-stream", **headers)
