"""The hub's own client downloads from a stand-in hub that serves FineWeb-Edu's layout."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from fineweb_edu import REPO, SCHEMA, parquet_file, repository
from hub_server import COMMIT, Fault, HubServer
from huggingface_hub import HfApi, constants

from cpt.config_sections import HubCorpus
from cpt.corpus import hub as hub_module
from cpt.errors import UserError
from cpt.files import read_json
from cpt.progress import NOTICE
from cpt.stage import arguments
from download import download

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download.py"
TOKEN = "hf_aTokenThatMustNotBeSeen"
SOURCE = HubCorpus(source="hub", repo=REPO, revision="main", files="sample/10BT/*.parquet", shards=1)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return repository()


@pytest.fixture
def server(files, monkeypatch):
    with HubServer(REPO, dict(files)) as started:
        monkeypatch.setattr(hub_module, "HfApi", lambda: HfApi(endpoint=started.url))
        yield started


def fetch(source, shard, folder, shards=None):
    output = folder / f"{shard:05d}.parquet"
    source = SOURCE.model_copy(update=source)
    return hub_module.fetch_hub_file(source, "web", shard, shards or shard + 1, output)


def requests(server, on):
    return [request for request in server.requests if request.on == on]


def test_shards_are_the_matching_files_in_sorted_order(server, files, tmp_path):
    for shard in (2, 0):
        path, revision, entry = fetch({}, shard, tmp_path / str(shard))
        name = f"sample/10BT/{shard:03d}_00000.parquet"
        content = files[name]
        assert path.read_bytes() == content
        digest = hashlib.sha256(content).hexdigest()
        assert (revision, entry) == (COMMIT, {"name": name, "bytes": len(content), "sha256": digest})
        assert pq.read_schema(path).equals(SCHEMA)
    requested = [request.path.rpartition("/")[2] for request in requests(server, "file")]
    assert requested == ["002_00000.parquet", "000_00000.parquet"]


def test_only_the_folder_of_the_pattern_is_listed(server, tmp_path):
    assert fetch({"files": "data/CC-MAIN-*/*.parquet"}, 0, tmp_path)[2]["name"].startswith(
        "data/CC-MAIN-2024-10/"
    )
    (listing,) = requests(server, "tree")
    assert f"/tree/{COMMIT}/data?" in listing.path


def test_long_lists_come_in_pages(server, tmp_path):
    server.page = 1
    assert fetch({}, 2, tmp_path)[2]["name"] == "sample/10BT/002_00000.parquet"
    assert len(requests(server, "tree")) == 3


def test_the_pattern_may_be_a_file_or_reach_everywhere(server, tmp_path):
    assert fetch({"files": "sample/10BT/001_00000.parquet"}, 0, tmp_path)[2]["name"].endswith(
        "001_00000.parquet"
    )
    assert fetch({"files": "*.parquet"}, 0, tmp_path)[2]["name"] == "data/CC-MAIN-2024-10/000_00000.parquet"


def test_estimate_before_the_download(server, files, tmp_path, caplog, monkeypatch):
    sizes = [len(files[f"sample/10BT/{shard:03d}_00000.parquet"]) for shard in range(3)]
    configs = [{"config_name": "sample-10BT", "data_files": [{"split": "train", "path": "sample/10BT/*"}]}]
    splits = [{"name": "train", "num_examples": 4500, "num_bytes": 1}]
    server.card = {"configs": configs, "dataset_info": [{"config_name": "sample-10BT", "splits": splits}]}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_456_789_000))
    caplog.set_level(NOTICE, logger="root")
    fetch({}, 0, tmp_path, shards=2)
    first, needed, available = (amount(sum(sizes[:count])) for count in (1, 2, 3))
    rows = f" (about {4500 * sum(sizes[:2]) / sum(sizes):,.0f} rows)"
    message = (
        f"corpora.web, shard 0: sample/10BT/000_00000.parquet, {first}; 2 of 3 matching files are asked for, "
    )
    message += f"{needed} of {available}{{}}; {{}} are still to come, 3.46 GB are free in {tmp_path}\n"
    assert message.format(rows, needed) in caplog.text
    caplog.clear()
    # A finished shard and the downloaded part of another no longer count.
    (tmp_path / "00001.parquet").touch()
    (part,) = (tmp_path / ".00000.parquet.download").iterdir()
    part.write_bytes(part.read_bytes()[:100_000])
    server.card = {"configs": "text", "dataset_info": 7}
    fetch({}, 0, tmp_path, shards=2)
    assert message.format("", amount(sizes[0] - 100_000)) in caplog.text


def amount(size: int) -> str:
    return f"{size / 1e3:,.2f} kB" if size < 1e6 else f"{size / 1e6:,.2f} MB"


def test_too_small_a_disk_for_all_files_is_reported_before_the_first(server, files, tmp_path, monkeypatch):
    size, more = (len(files[f"sample/10BT/{shard:03d}_00000.parquet"]) for shard in (0, 1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size + more - 1))
    message = (
        f"corpora.web: sample/10BT/000_00000.parquet ({amount(size)}) and later files need "
        f"{amount(size + more)}, but only {amount(size + more - 1)} are free in {tmp_path}; free space, set "
        "`results` to a folder on a larger disk, or lower corpora.web.shards or the budgets"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        fetch({}, 0, tmp_path, shards=2)
    assert requests(server, "file") == []
    assert fetch({}, 0, tmp_path, shards=1)[2]["bytes"] == size


@pytest.mark.parametrize(
    ("source", "shard", "message"),
    [
        (
            {},
            3,
            r"corpora.web.shards: 4 are needed .* but 3 files .* match .*; lower shards or the budgets",
        ),
        ({"files": "README.*"}, 0, r"corpora.web.files: no reader for 1 .md \(README.md\); narrow the"),
        ({"files": "sample/11BT/*.parquet"}, 0, r"corpora.web.files: no file of .* matches 'sample/11BT/"),
        ({"files": "sample/10BT/*.json"}, 0, r"no file of .* matches .*; compare it with the repo"),
        ({"revision": "v9"}, 0, r"at v9: there is no such revision; set corpora.web.revision to a commit"),
        ({"repo": "some/thing"}, 0, r"there is no such dataset, or it is private; check corpora.web.repo"),
        ({"repo": "a b"}, 0, r"corpora.web.repo must read owner/name"),
    ],
)
def test_what_the_config_got_wrong(server, tmp_path, source, shard, message):
    with pytest.raises(UserError, match=message):
        fetch(source, shard, tmp_path)
    assert requests(server, "file") == []


def test_offline(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset it to download"):
        fetch({}, 0, tmp_path)
    assert server.requests == []


def test_too_many_shards_are_reported_before_the_first_file(server, tmp_path):
    with pytest.raises(UserError, match=r"shards: 4 are needed \(set, or from"):
        fetch({}, 0, tmp_path, shards=4)
    assert requests(server, "file") == []


def test_leftovers_of_other_files_are_removed(server, tmp_path):
    fetch({}, 0, tmp_path)
    source = {"files": "data/*.parquet"}
    path = fetch(source, 0, tmp_path)[0]
    assert list((tmp_path / ".00000.parquet.download").iterdir()) == [path]
    fetch(source, 0, tmp_path)
    assert len(requests(server, "file")) == 2


def test_json_lines_that_git_holds_are_checked_and_converted(server, tmp_path):
    server.faults.append(Fault("wrong-bytes", at=12))
    output, manifest = tmp_path / "raw" / "00000.parquet", tmp_path / "raw" / "00000.json"
    download("web", SOURCE.model_copy(update={"files": "lines/*.jsonl"}), 0, 1, output, manifest)
    assert pq.read_table(output)["text"].to_pylist() == [f"line {i} of git's own file" for i in range(50)]
    facts = read_json(manifest)
    content = server.files["lines/part.jsonl"]
    entry = {"name": "lines/part.jsonl", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert (facts["revision"], facts["files"], facts["rows"]) == (COMMIT, [entry], 50)
    assert len(requests(server, "file")) == 2


def start(server, folder, **environment):
    """Start the script as the workflow does, with the installed client."""
    paths = {"documents": folder / "00001.parquet", "manifest": folder / "00001.json", "log": folder / "log"}
    command = [sys.executable, SCRIPT, *arguments(corpus="web", source=SOURCE, shard=1, shards=3, **paths)]
    variables = {**surroundings(server), **environment}
    return subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)


def surroundings(server) -> dict[str, str]:
    """The environment of a process whose hub is the stand-in."""
    network_variables = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE")
    inherited = {name: value for name, value in os.environ.items() if name not in network_variables}
    return {**inherited, "HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN}


def test_papers_config_fetches_what_its_budgets_need_and_more_budget_only_adds(files, tmp_path):
    raw = "results/corpora/fineweb_edu/raw/{:05d}.parquet"

    def snakemake(shards: int, *options: str) -> str:
        command = [sys.executable, "-m", "snakemake", "--snakefile", SCRIPT.parents[1] / "Snakefile"]
        command += ["--directory", tmp_path, "--cores", "1", "--quiet", "rules", *options, "--"]
        command += [raw.format(shard) for shard in range(shards)]
        done = subprocess.run(command, env=surroundings(server), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    with HubServer(REPO, files) as server:
        log = snakemake(2)
        fetched = sorted(request.path.rpartition("/")[2] for request in requests(server, "file"))
        assert fetched == ["000_00000.parquet", "001_00000.parquet"]
    for shard in range(2):
        name = f"sample/10BT/{shard:03d}_00000.parquet"
        assert (tmp_path / raw.format(shard)).read_bytes() == files[name]
        assert f"corpora.fineweb_edu, shard {shard}: {name}, {amount(len(files[name]))}; 2 of 3 match" in log
    more = ("runs={more: {tokens: 1.5B, gpus: 8}}", "corpora={fineweb_edu: {tokens_per_shard: 500M}}")
    planned = snakemake(3, "--config", *more, "--dry-run")
    assert re.search(r"^download +1$", planned, re.M)


def test_resumes_in_mid_file_after_a_kill(files, tmp_path):
    name = "sample/10BT/001_00000.parquet"
    begins = [100_000, 350_000]
    with HubServer(REPO, files) as server:
        server.faults.extend([Fault("stall", at=100_000), Fault("stall", at=250_000)])
        for begin in begins:
            server.holding.clear()
            process = start(server, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="60")
            assert server.holding.wait(60)
            wait_for(tmp_path, begin)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not (tmp_path / "00001.parquet").exists()
        process = start(server, tmp_path)
        process.communicate()
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert (tmp_path / "00001.parquet").read_bytes() == files[name]
        parts = requests(server, "file")
    assert [part.range for part in parts] == [None, *(f"bytes={begin}-" for begin in begins)]
    assert sum(part.sent for part in parts) == len(files[name])
    assert f"resumes after 350,000 of {len(files[name]):,} bytes" in (tmp_path / "log").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.json", "00001.parquet", "log"]


def test_kills_at_random_moments_change_nothing(files, tmp_path):
    chance = random.Random(7)
    content = files["sample/10BT/001_00000.parquet"]
    with HubServer(REPO, files) as server:
        server.pause = 0.05  # the whole file takes 1.9 seconds
        for kill in range(5):
            process = start(server, tmp_path)
            while len(requests(server, "file")) == kill and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not (tmp_path / "00001.parquet").exists()
        process = start(server, tmp_path)
        process.communicate()
        assert process.returncode == 0
        begins = [int(part.range[6:-1]) if part.range else 0 for part in requests(server, "file")]
    assert (tmp_path / "00001.parquet").read_bytes() == content
    assert begins == sorted(begins)
    assert begins[0] == 0 < begins[-1]
    assert len(begins) == 6


def wait_for(folder: Path, size: int) -> None:
    """Wait until the process has written the `size` bytes that the server sent."""
    for _ in range(600):
        if sum(path.stat().st_size for path in folder.rglob("*-001_00000.parquet")) >= size:
            return
        time.sleep(0.05)
    raise AssertionError("the download wrote nothing for 30 seconds")


def test_token_stays_secret(files, tmp_path):
    with HubServer(REPO, files) as server:
        server.faults.append(Fault("status", "info", status=503))
        server.faults.append(Fault("status", "tree", status=500))
        server.faults.append(Fault("status", "hub", status=403))
        process = start(server, tmp_path)
        _, shown = process.communicate()
        # Requests of the kind `none` are the client's own.
        hub_requests = [request for request in server.requests if request.on != "none"]
        assert {request.authorization for request in hub_requests} == {f"Bearer {TOKEN}"}
        assert process.returncode == 1
        assert "the hub refuses access (403); set HF_TOKEN" in shown
        text = shown + (tmp_path / "log").read_text()
        process = start(server, tmp_path)
        process.communicate()
        assert process.returncode == 0
        text += (tmp_path / "log").read_text() + (tmp_path / "00001.json").read_text()
        # The second address, the content network's, never gets the token.
        assert [request.authorization for request in requests(server, "file")] == [None]
    assert TOKEN not in text
    assert "http://" not in text  # addresses of the content network are signed


def test_a_file_without_documents_is_refused(tmp_path, monkeypatch):
    output, manifest = tmp_path / "raw" / "00000.parquet", tmp_path / "raw" / "00000.json"
    with HubServer(REPO, {"sample/10BT/000_00000.parquet": parquet_file(0, 1)}) as started:
        monkeypatch.setattr(hub_module, "HfApi", lambda: HfApi(endpoint=started.url))
        with pytest.raises(
            UserError, match=r"corpora\.web, shard 0: there is not one document in it; look into"
        ):
            download("web", SOURCE, 0, 1, output, manifest)
    assert not output.exists()
