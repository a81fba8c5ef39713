"""Own files at addresses: https (a stand-in server), hf (the stand-in hub), and any fsspec driver."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pyarrow.parquet as pq
import pytest
from fineweb_edu import REPO, parquet_file
from hub_server import Fault, HubServer
from huggingface_hub import constants

from cpt.config_sections import LocalCorpus
from cpt.corpus import addresses, remote
from cpt.errors import UserError
from cpt.files import read_json
from cpt.stage import arguments
from download import download

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download.py"
LINES = b"".join(b'{"text": "number %d %s"}\n' % (i, os.urandom(40).hex().encode()) for i in range(3000))


@pytest.fixture
def server(monkeypatch):
    files = {"part.jsonl.gz": gzip.compress(LINES, mtime=0), "more.parquet": parquet_file(30, 1)}
    with HubServer(REPO, files) as started:
        started.waits = []
        clock = SimpleNamespace(sleep=started.waits.append, time=lambda: 0)
        monkeypatch.setattr(remote, "time", clock)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        yield started


@pytest.fixture
def memory():
    """A file system that fsspec keeps in memory; it represents any driver without faults of its own."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    for name in "abc":
        system.pipe(f"/texts/{name}.txt", f"text {name}".encode())
    yield system
    system.store.clear()


def fetch(tmp_path, patterns, shard=0, shards=1, files=()):
    output, manifest = tmp_path / "raw" / "00000.parquet", tmp_path / "raw" / "00000.json"
    source = LocalCorpus(source="local", files=patterns, shards=shards)
    download("web", source, shard, shards, output, manifest, files=files)
    assert sorted(path.name for path in output.parent.iterdir()) == ["00000.json", "00000.parquet"]
    return pq.read_table(output).to_pydict(), read_json(manifest)


FAULTS = [
    ([], []),
    ([Fault("cut", at=1_000), Fault("reset", at=2_000)], [1, 2]),
    ([Fault("status", status=503), Fault("stall", at=500)], [1, 2]),
    ([Fault("short", at=900), Fault("whole")], [1]),
]


@pytest.mark.parametrize(("faults", "waits"), FAULTS, ids=["none", "broken", "silent", "short"])
def test_https_resumes_after_faults(server, tmp_path, faults, waits):
    url = f"{server.network}/bytes/part.jsonl.gz"
    faultless = fetch(tmp_path / "faultless", url)
    server.faults.extend([Fault("none"), *faults])  # the first request asks for the size
    assert fetch(tmp_path / "faulty", url)[0] == faultless[0]
    assert not server.faults
    assert server.waits == waits
    assert faultless[0]["url"][0] == f"{url}:0"
    assert len(faultless[0]["text"]) == 3000
    (entry,) = faultless[1]["files"]
    assert (entry["name"], entry["bytes"]) == (url, len(server.files["part.jsonl.gz"]))


def test_https_that_stays_broken(server, tmp_path):
    server.faults.extend([Fault("none"), *[Fault("status", status=500)] * 8])
    with pytest.raises(UserError, match=r"the server answered 500; try again later \(what was fetched"):
        fetch(tmp_path, f"{server.network}/bytes/more.parquet")


def test_the_download_of_a_changed_file_is_not_resumed(memory, tmp_path):
    (address,) = addresses.matching_addresses("memory://texts/a.txt", "web")
    path = addresses.fetch_address(address, tmp_path, "web")
    path.write_bytes(b"te")
    assert addresses.fetch_address(address, tmp_path, "web").read_bytes() == b"text a"
    memory.pipe("/texts/a.txt", b"TEXT A!")
    assert addresses.fetch_address(address, tmp_path, "web").read_bytes() == b"TEXT A!"


def test_globs_and_own_files_are_dealt_out_together(memory, tmp_path):
    (tmp_path / "own.txt").write_text("own")
    own = [tmp_path / "own.txt"]
    patterns = ["memory://texts/*.txt", str(own[0]), "memory://texts/a.txt"]
    texts = [fetch(tmp_path, patterns, shard, 2, own)[0]["text"] for shard in (0, 1)]
    assert texts == [["own", "text b"], ["text a", "text c"]]
    with pytest.raises(UserError, match="5 shards are asked for, but only 4 files match"):
        fetch(tmp_path, patterns, 4, 5, own)


def test_a_driver_that_fails(memory, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=waits.append))
    failures = iter([ConnectionResetError("secret"), TimeoutError("secret")])
    opened = memory.open

    def open_or_fail(*arguments, **options):
        for failure in failures:
            raise failure
        return opened(*arguments, **options)

    monkeypatch.setattr(type(memory), "open", staticmethod(open_or_fail))
    assert fetch(tmp_path, "memory://texts/b.txt")[0]["text"] == ["text b"]
    assert waits == [1, 2]


@pytest.mark.parametrize("error", [PermissionError("secret"), RuntimeError("secret")])
def test_a_driver_without_access(memory, tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(type(memory), "open", fail)
    message = rf"the driver failed \({type(error).__name__}\); check the address and the credentials"
    with pytest.raises(UserError, match=message) as raised:
        fetch(tmp_path, "memory://texts/b.txt")
    assert "secret" not in str(raised.value)


def test_a_driver_that_fails_before_the_first_byte(memory, tmp_path, monkeypatch):
    waits = []

    def fail(*arguments, **options):
        raise ConnectionResetError("secret")

    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr(type(memory), "info", fail)
    message = r"corpora\.web\.files: memory://.*b\.txt: the driver failed \(ConnectionResetError\); try again"
    with pytest.raises(UserError, match=message):
        fetch(tmp_path, "memory://texts/b.txt")
    assert len(waits) == remote.TRIES - 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("s3://bucket/*.parquet", r"the driver is not installed \(Install s3fs .*\); add it to the environ"),
        ("xyz://bucket/x.txt", "fsspec knows no driver for xyz://"),
        (
            "memory://texts/*.md",
            r"corpora.web.files: memory://texts/\*.md: no file matches; correct the pattern",
        ),
        ("memory://texts/d.txt", "there is no such file; correct the address"),
        ("memory://folder.txt", "not a file of known size; fetch it yourself and give its path here"),
        ("memory://texts/x.png", r"no reader for 1 \.png \(memory://.*x.png\); narrow the pattern"),
    ],
)
def test_what_the_config_got_wrong(memory, tmp_path, pattern, message):
    memory.mkdir("/folder.txt")
    with pytest.raises(UserError, match=message):
        fetch(tmp_path, pattern)


def test_too_small_a_disk_is_reported_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"bytes are to come, but only 1,000 are free in .*make room"):
        fetch(tmp_path, f"{server.network}/bytes/part.jsonl.gz")


def test_hf_addresses_through_the_hub_client(server, tmp_path):
    source = LocalCorpus(source="local", files=f"hf://datasets/{REPO}@main/*.parquet")
    paths = {"documents": tmp_path / "x.parquet", "manifest": tmp_path / "x.json"}
    command = [sys.executable, SCRIPT, *arguments(corpus="web", source=source, shard=0, shards=1, **paths)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**inherited, "HF_ENDPOINT": server.url, "HF_TOKEN": "hf_secretToken"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (entry,) = read_json(tmp_path / "x.json")["files"]
    assert entry["bytes"] == len(server.files["more.parquet"])
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 30
    assert "hf_secretToken" not in done.stderr + (tmp_path / "x.json").read_text()
