"""Network faults on the way to the hub: each ends with the same bytes, or with a message and no output."""

import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from fineweb_edu import REPO, repository
from hub_server import COMMIT, Fault, HubServer
from huggingface_hub import HfApi, constants

from cpt.config_sections import HubCorpus
from cpt.corpus import hub as hub_module
from cpt.corpus import remote
from cpt.errors import UserError
from cpt.files import read_json
from download import download

TOKEN = "hf_aTokenThatMustNotBeSeen"
NAME = "sample/10BT/001_00000.parquet"
SOURCE = HubCorpus(source="hub", repo=REPO, revision=COMMIT, files="sample/10BT/*.parquet", shards=2)
DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "download-faults.md"


class Case(NamedTuple):
    """A row of the table in docs/download-faults.md: `waits` (s) before retries, an error's `message`."""

    fault: str
    faults: list[Fault]
    waits: Sequence[float] = ()
    outcome: str = "same bytes"
    message: str = ""


def status(number: int, on: str = "file", **headers: str) -> Fault:
    return Fault(
        "status", on, status=number, headers=tuple((k.replace("_", "-"), v) for k, v in headers.items())
    )


ALL_WAITS = [1, 2, 4, 8, 16, 32, 64]
CASES = [
    Case("none", []),
    Case("429 with Retry-After: 7, on a file", [status(429, Retry_After="7")], [7]),
    Case("429 with Retry-After as a date", [status(429, Retry_After="DATE+30")], [30]),
    Case("429 with the hub's RateLimit header", [status(429, RateLimit='"resolvers";r=0;t=55')], [55]),
    Case("429 on the address of the file", [status(429, "hub", Retry_After="3")], [3]),
    Case("429 on the repository", [status(429, "info", Retry_After="3")], [3]),
    Case("429 on the list of files", [status(429, "tree", Retry_After="3")], [4]),
    Case("500, three times", [status(500)] * 3, [1, 2, 4]),
    Case("503 with Retry-After: 2", [status(503, Retry_After="2")], [2]),
    Case("408, 502, 504", [status(408), status(502), status(504)], [1, 2, 4]),
    Case("500 on the repository and the list", [status(500, "info"), status(500, "tree")], [1, 1]),
    Case("connection closed without an answer", [Fault("disconnect")] * 2, [1, 2]),
    Case("reset in mid-body", [Fault("reset", at=50_000), Fault("reset", at=70_000)], [1, 2]),
    Case("closed in mid-body", [Fault("cut", at=50_000)] * 3, [1, 2, 4]),
    Case("body shorter than the file, announced so", [Fault("short", at=99_999)], [1]),
    Case("silence in mid-body", [Fault("stall", at=60_000)], [1]),
    Case("silence on the repository", [Fault("stall", "info")], [1]),
    Case("silence on the list of files", [Fault("stall", "tree")], [1]),
    Case("body longer than the file", [Fault("longer")], [1]),
    Case("wrong ETag, on the address and on the file", [Fault("wrong-etag", "hub"), Fault("wrong-etag")]),
    Case("wrong bytes, once", [Fault("wrong-bytes", at=1234)], outcome="fetched again: same bytes"),
    Case("a damaged part from before a kill", [Fault("cut", at=50_000)], [1], "fetched again: same bytes"),
    Case("`Range` ignored after a cut", [Fault("cut", at=50_000), Fault("whole")], [1]),
    Case("another part than asked for", [Fault("cut", at=50_000), Fault("other-part")], [1, 2]),
    Case("416 on a part", [Fault("cut", at=50_000), status(416)], [1, 2]),
    Case(
        "wrong bytes, twice",
        [Fault("wrong-bytes", at=1234)] * 2,
        outcome="error, nothing kept",
        message=r"it arrived damaged twice .* it was removed; look for a proxy",
    ),
    Case(
        "503 for ever",
        [status(503)] * 8,
        ALL_WAITS,
        "error after 8 tries, what was fetched is kept",
        "the server answered 503; try again later",
    ),
    Case(
        "closed in mid-body for ever",
        [Fault("cut", at=1)] * 8,
        ALL_WAITS,
        "error after 8 tries, what was fetched is kept",
        r"the connection broke \(RemoteProtocolError\); try again later",
    ),
    Case(
        "429 with Retry-After: 3600",
        [status(429, Retry_After="3600")],
        outcome="error that says how long to wait",
        message="the server answered 429 and asks to wait 3,600 seconds; run again after that",
    ),
    Case(
        "gated repository",
        [status(403, "hub", X_Error_Code="GatedRepo")],
        outcome="error",
        message="access is gated; accept its terms on the hub, then set HF_TOKEN",
    ),
    Case(
        "no such repository, or private",
        [status(404, "info", X_Error_Code="RepoNotFound")],
        outcome="error",
        message="there is no such dataset, or it is private; check corpora.web.repo and HF_TOKEN",
    ),
    Case(
        "no such revision",
        [status(404, "info", X_Error_Code="RevisionNotFound")],
        outcome="error",
        message="there is no such revision; set corpora.web.revision to a commit of it",
    ),
    Case(
        "file listed but missing",
        [status(404, "hub", X_Error_Code="EntryNotFound")],
        outcome="error",
        message="the hub lists the file but doesn't have it; set another revision",
    ),
    Case(
        "token refused",
        [status(401, "hub")],
        outcome="error",
        message=r"the hub refuses access \(401\); set HF_TOKEN to a token that may read it, or unset it",
    ),
    Case(
        "a sign-in page instead of the hub",
        [Fault("text", "info")],
        outcome="error",
        message="the answer is not a hub's; check HF_ENDPOINT and proxies",
    ),
]


def table() -> str:
    """The table in docs/download-faults.md."""
    lines = ["| fault | waits before the next try, s | outcome |", "| --- | --- | --- |"]
    for case in CASES[1:]:
        waits = ", ".join(f"{wait:g}" for wait in case.waits) or "none"
        lines.append(f"| {case.fault} | {waits} | {case.outcome} |")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return repository()


@pytest.fixture
def server(files, monkeypatch):
    """The stand-in hub; waits are only recorded, and silence lasts 0.3 s instead of 10 s."""
    with HubServer(REPO, files) as started:
        monkeypatch.setattr(hub_module, "HfApi", lambda: HfApi(endpoint=started.url))
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        started.waits = []
        for module in (remote, sys.modules["huggingface_hub.utils._http"]):
            monkeypatch.setattr(module, "time", SimpleNamespace(sleep=started.waits.append, time=time.time))
        yield started


def fetch(folder: Path) -> tuple[Path, Path]:
    output, manifest = folder / "raw" / "00001.parquet", folder / "raw" / "00001.json"
    download("web", SOURCE, 1, 2, output, manifest)
    return output, manifest


def leave_part(folder: Path, content: bytes) -> None:
    """Write what a killed download leaves: its folder with the first bytes of the file."""
    digest = hashlib.sha256(repository()[NAME]).hexdigest()
    part = folder / "raw" / ".00001.parquet.download" / f"{digest}-001_00000.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)


def planned(fault: Fault) -> Fault:
    """A fault with its date filled in."""
    date = formatdate(time.time() + 30, usegmt=True)
    return fault._replace(
        headers=tuple((key, value.replace("DATE+30", date)) for key, value in fault.headers)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_fault(server, files, tmp_path, caplog, case):
    caplog.set_level(logging.INFO)
    server.faults.extend(planned(fault) for fault in case.faults)
    if "before a kill" in case.fault:
        leave_part(tmp_path, b"damaged" + files[NAME][7:90_000])
    if case.message:
        with pytest.raises(UserError, match=case.message) as raised:
            fetch(tmp_path)
        assert TOKEN not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
        left = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        received = sum(request.sent for request in server.requests)
        assert left == (received if "kept" in case.outcome and "nothing" not in case.outcome else 0)
        assert not (tmp_path / "raw" / "00001.parquet").exists()
    else:
        output, manifest = fetch(tmp_path)
        assert output.read_bytes() == files[NAME]
        facts = read_json(manifest)
        digest = hashlib.sha256(files[NAME]).hexdigest()
        assert (facts["revision"], facts["sha256"]) == (COMMIT, digest)
        assert facts["files"] == [{"name": NAME, "bytes": len(files[NAME]), "sha256": digest}]
        assert TOKEN not in manifest.read_text()
        assert sorted(path.name for path in output.parent.iterdir()) == ["00001.json", "00001.parquet"]
        fetched_again = sum(record.message.endswith("fetching them again") for record in caplog.records)
        assert fetched_again == (case.outcome == "fetched again: same bytes")
    assert not server.faults
    assert server.waits == pytest.approx(list(case.waits), abs=1.5 if "date" in case.fault else 0)
    assert TOKEN not in caplog.text
    assert {request.authorization for request in server.requests if request.on != "file"} == {
        f"Bearer {TOKEN}"
    }
    assert {request.authorization for request in server.requests if request.on == "file"} <= {None}


def test_the_table_is_in_the_documentation():
    assert table() in DOCUMENTATION.read_text(), f"docs/download-faults.md must hold this table:\n{table()}"


def test_each_part_is_requested_once(server, files, tmp_path):
    size = len(files[NAME])
    server.faults.extend([Fault("cut", at=50_000), Fault("reset", at=70_000), Fault("stall", at=1_000)])
    fetch(tmp_path)
    parts = [request for request in server.requests if request.on == "file"]
    assert [part.range for part in parts] == [None, "bytes=50000-", "bytes=120000-", "bytes=121000-"]
    assert sum(part.sent for part in parts) == size


def test_progress_restarts_the_count_of_tries(server, files, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PROGRESS_BYTES", 10_000)
    server.faults.extend([Fault("cut", at=10_000)] * 20)
    output, _ = fetch(tmp_path)
    assert output.read_bytes() == files[NAME]
    assert server.waits == [1] * 20


def test_the_next_run_resumes_after_a_failure(server, files, tmp_path):
    server.faults.extend([Fault("cut", at=80_000), *[status(503)] * 7])
    with pytest.raises(UserError, match="what was fetched is kept"):
        fetch(tmp_path)
    before = len(server.requests)
    output, _ = fetch(tmp_path)
    assert output.read_bytes() == files[NAME]
    (part,) = [request for request in server.requests[before:] if request.on == "file"]
    assert (part.range, part.sent) == ("bytes=80000-", len(files[NAME]) - 80_000)


def test_a_token_that_no_header_can_hold(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_bad\u20actoken")
    with pytest.raises(UserError, match="unusual characters in HF_TOKEN") as raised:
        fetch(tmp_path)
    assert "token" not in str(raised.value).replace("HF_TOKEN", "")


def test_no_route_to_the_hub(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    with pytest.raises(
        UserError, match=r"can't be reached \(ConnectError\); try again later or from a machine"
    ):
        fetch(tmp_path)
    assert server.waits == ALL_WAITS
    assert server.requests == []
