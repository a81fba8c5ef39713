"""Released folders on a stand-in for the hub: all files, once, never without a licence or a token."""

import json
from pathlib import Path

import pytest
from tests.workflow.upload_server import UploadServer

from cpt.config_release import Release, check_release
from cpt.errors import UserError
from cpt.files import sha256_of
from push_run import push_run

TOKEN = "hf_secret"
FILES = {
    "README.md": "---\nlicense: mit\n---\ncard",
    "config.json": "{}",
    "model-00001-of-00002.safetensors": "one",
    "model-00002-of-00002.safetensors": "two",
    "run-Q8_0.gguf": "quantised",
    "additional_chat_templates/tool_use.jinja": "x",
    ".snakemake_timestamp": "",
}


@pytest.fixture
def released(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "released" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "released" / name).write_text(text)
    (tmp_path / "base.json").write_text(json.dumps({"licence": "apache-2.0"}))
    return tmp_path / "released"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # scoring's tests set it


def push(released: Path, hub: UploadServer, monkeypatch: pytest.MonkeyPatch, **changed: object) -> dict:
    """Run the stage against `hub`; return its record."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    record = released.with_name("record.json")
    settings = {"run": "cpt", "repo": "me/cpt", "private": True, "branch": "main", "license": None} | changed
    push_run(released, released.with_name("base.json"), record, **settings)
    return json.loads(record.read_text())


def test_all_files_are_uploaded_once(released, environment, monkeypatch):
    with UploadServer() as hub:
        first = push(released, hub, monkeypatch)
        assert hub.files == {name: text.encode() for name, text in FILES.items() if not name.startswith(".")}
        assert (hub.repository, hub.private) == ("me/cpt", True)
        assert hub.tokens - {None} == {f"Bearer {TOKEN}"}
        assert first["commit"] == hub.commit and sorted(first["uploaded"]) == sorted(hub.files)
        assert first["files"]["config.json"] == sha256_of(released / "config.json")
        again = push(released, hub, monkeypatch)
        assert again == {**first, "uploaded": []} and len(hub.commits) == 1
        (released / "README.md").write_text("---\nlicense: mit\n---\nnew scores")
        third = push(released, hub, monkeypatch)
        assert third["uploaded"] == ["README.md"] and hub.files["README.md"].endswith(b"new scores")
        assert hub.commits[1].startswith("cpt: ") and hub.commits[0] != hub.commits[1]


def test_another_branch_is_created(released, environment, monkeypatch):
    with UploadServer() as hub:
        record = push(released, hub, monkeypatch, branch="candidate")
        assert hub.files == {} and set(hub.branches["candidate"]) == set(record["files"])
        assert push(released, hub, monkeypatch, branch="candidate")["uploaded"] == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            401,
            "changing me/cpt isn't allowed with this token; set HF_TOKEN to one with write access",
        ),
        (403, "isn't allowed with this token"),
        (500, "the hub answered 500"),
    ],
)
def test_a_refusal_of_the_hub_is_reported_without_the_token(
    status, message, released, environment, monkeypatch
):
    with UploadServer(refused=status) as hub, pytest.raises(UserError, match=message) as error:
        push(released, hub, monkeypatch)
    assert TOKEN not in str(error.value) and not released.with_name("record.json").exists()


@pytest.mark.parametrize(
    ("licence", "message"),
    [
        (None, r"licence of the base model isn't known, .* set base\.license"),
        ("unknown", "isn't known"),
        ("CC-BY-NC-ND-4.0", "CC-BY-NC-ND-4.0, forbids passing on changed versions"),
    ],
)
def test_nothing_is_sent_where_the_licence_forbids_it(licence, message, released, environment, monkeypatch):
    released.with_name("base.json").write_text(json.dumps({"licence": licence}))
    with UploadServer() as hub:
        with pytest.raises(UserError, match=message):
            push(released, hub, monkeypatch)
        assert hub.asked == []
        assert push(released, hub, monkeypatch, license="mit")["uploaded"]


def test_nothing_is_sent_without_a_token(released, monkeypatch):
    monkeypatch.setattr("cpt.report.upload.get_token", lambda: None)
    with UploadServer() as hub:
        with pytest.raises(UserError, match="no token for the hub; set HF_TOKEN"):
            push(released, hub, monkeypatch)
        assert hub.asked == []


def test_a_missing_network_is_reported(released, environment, monkeypatch):
    with UploadServer() as hub:
        pass
    with pytest.raises(UserError, match="check network, HF_ENDPOINT and HF_TOKEN"):
        push(released, hub, monkeypatch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repo": "no-owner"}, "expected OWNER/NAME"),
        ({"repo": "me/one"}, r"release\.repo: a, b would all go to me/one; put \{run\} into the name"),
        ({"repo": "me/{run}", "runs": ["c"]}, r"release\.runs"),
        ({"gguf": ["q2"]}, "gguf"),
    ],
)
def test_config_is_checked_at_the_start(settings, message):
    with pytest.raises(ValueError, match=message):
        check_release(Release(**settings), ["a", "b"])


def test_config_that_fits():
    check_release(Release(repo="me/{run}"), ["a", "b"])
    check_release(Release(repo="me/one", runs=["a"]), ["a", "b"])
    assert Release(gguf=["f16", "f16"]).gguf == ["f16"]
