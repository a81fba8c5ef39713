"""Documents from own files."""

import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_sources import documents_of as read
from own_sources import fetch

from cpt.config_sections import LocalCorpus
from cpt.corpus.encodings import valid_text
from cpt.corpus.sources import documents_in
from cpt.errors import UserError
from download import download


def test_valid_text():
    assert valid_text(None) == (None, False)
    assert valid_text("\U0001f600 é") == ("\U0001f600 é", False)
    assert valid_text(b"ab\xffc") == ("ab\ufffdc", True)
    assert valid_text("a\ud800b") == ("a\ufffdb", True)


def test_parquet(save_table, tmp_path):
    path = save_table(tmp_path / "x.parquet", {"text": ["a", None, ""], "id": [7, None, 9], "n": [1, 2, 3]})
    assert read(path) == [
        ("7", "a", "x.parquet:0", False),
        ("x.parquet:1", None, "x.parquet:1", False),
        ("9", "", "x.parquet:2", False),
    ]


def test_parquet_with_invalid_utf8_and_other_string_types(tmp_path):
    raw = pa.array([b"ab\xff", b"ok"])
    columns = {
        "text": pa.Array.from_buffers(pa.string(), 2, raw.buffers()),
        "id": pa.array(["p", "q"]).dictionary_encode(),
        "url": pa.array(["u", None], pa.large_string()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == [("p", "ab\ufffd", "u", True), ("q", "ok", "x.parquet:1", False)]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_json_lines(tmp_path, ending):
    lines = b'{"text": "a\\ud800", "id": 3}\r\n\n{"text": null, "url": "u"}\n{"text": "b\xff"}'
    path = tmp_path / f"x.{ending}"
    if ending.endswith("gz"):
        path.write_bytes(gzip.compress(lines[:20]) + gzip.compress(lines[20:]))
    elif ending.endswith("zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(lines)
    else:
        path.write_bytes(lines)
    assert read(path) == [
        ("3", "a\ufffd", f"{path.name}:0", True),
        (f"{path.name}:1", None, "u", False),
        (f"{path.name}:2", "b\ufffd", f"{path.name}:2", True),
    ]


def test_plain_text(tmp_path):
    (tmp_path / "x.md").write_bytes("\ufeff# Title\n".encode())
    assert read(tmp_path / "x.md") == [("x.md:0", "# Title\n", "x.md", False)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "x.jsonl, line 2: not JSON .*; each line must be one JSON object"),
        (b'{"body": "a"}', "x.jsonl, line 1: there is no key 'text'; its keys are body"),
        (b"[1]", "line 1: there is no key 'text'; it is a list"),
        (b'{"text": 3}', "line 1: 'text' holds a int, expected a string or null; correct the line, or name"),
    ],
)
def test_bad_json_lines(tmp_path, content, message):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)


def test_truncated_files(save_table, tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-12])
    with pytest.raises(UserError, match=r"x.jsonl.gz: can't be read to its end"):
        read(path)
    table = save_table(tmp_path / "x.parquet", {"text": ["a"]})
    table.write_bytes(table.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"x.parquet: not a complete parquet file"):
        read(table)


def test_text_column_must_hold_text(save_table, tmp_path):
    with pytest.raises(UserError, match=r"column 'text' holds int64, not text; set .* text_column"):
        read(save_table(tmp_path / "x.parquet", {"text": [1]}))


def test_no_match_names_the_key_and_the_pattern(tmp_path):
    with pytest.raises(UserError, match=r"corpora.news.files: no file matches texts/\*; fix the pattern"):
        fetch(tmp_path, [tmp_path])  # a folder is no file
    (tmp_path / "a.png").touch()
    with pytest.raises(
        UserError,
        match=r"corpora.news.files: no reader for 1 \.png \(.*a.png\); narrow the pattern to known endings",
    ):
        fetch(tmp_path, [tmp_path / "a.png"])


def test_damaged_files_are_listed_or_skipped(tmp_path, caplog):
    for name, content in (("a.pdf", b"%PDF-1.7\n"), ("b.txt", b"text"), ("c.docx", b"PK"), ("d.epub", b"")):
        (tmp_path / name).write_bytes(content)
    files = sorted(tmp_path.iterdir())
    with pytest.raises(
        UserError, match=r"(?s)3 of 4 files can't be read:.*a.pdf: .*c.docx: .*`unreadable: skip`"
    ):
        fetch(tmp_path, files)
    source = LocalCorpus(source="local", files="x", unreadable="skip")
    download("news", source, 0, 1, tmp_path / "00000.parquet", tmp_path / "00000.json", files=files)
    assert pq.read_table(tmp_path / "00000.parquet")["text"].to_pylist() == ["text"]
    entries = json.loads((tmp_path / "00000.json").read_text())["files"]
    assert ["error" in entry for entry in entries] == [True, False, True, True]
    assert "skipped: " in caplog.text


def test_files_are_dealt_out(tmp_path):
    files = [tmp_path / f"{name}.txt" for name in "cadbe"]
    for path in files:
        path.write_text(f"text {path.stem}")
    texts, contents = [], []
    for shard in (0, 1, 1):
        output, manifest = fetch(tmp_path, files, shard, 2)
        texts.append(pq.read_table(output)["text"].to_pylist())
        contents.append(output.read_bytes())
        facts = json.loads(manifest.read_text())
        assert facts["sha256"] == hashlib.sha256(contents[-1]).hexdigest()
        assert (facts["rows"], facts["bytes"]) == (len(texts[-1]), len(contents[-1]))
        assert (facts["corpus"], facts["shard"]) == ("news", shard)
        source = {"source": "local", "files": "texts/*", "shards": 2, "text_column": "text"}
        assert source.items() <= facts["source"].items()
    assert texts == [["text a", "text c", "text e"], ["text b", "text d"], ["text b", "text d"]]
    assert contents[1] == contents[2]
    with pytest.raises(UserError, match=r"news.shards: 6 shards are asked for, but only 5 files match"):
        fetch(tmp_path, files, 5, 6)


def test_an_empty_corpus_is_refused(tmp_path):
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(UserError, match=r"corpora.news, shard 0: there is not one document in it; look into"):
        fetch(tmp_path, [tmp_path / "x.jsonl"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_columns_of_numbers(save_table, tmp_path):
    columns = {"text": ["a", "b", "c"], "score": [4, None, 2], "label": ["x", "y", "z"]}
    table = save_table(tmp_path / "x.parquet", columns)
    lines = tmp_path / "x.jsonl"
    lines.write_text("".join(f'{{"text": "t", "score": {score}}}\n' for score in ("4", "null", "2.5e0")))
    assert [d.numbers for d in documents_in(table, "x", "text", ["score"])] == [(4,), (None,), (2,)]
    assert [d.numbers for d in documents_in(lines, "x", "text", ["score"])] == [(4.0,), (None,), (2.5,)]
    assert [d.numbers for d in documents_in(lines, "x", "text")] == [(), (), ()]
    words = tmp_path / "y.jsonl"
    words.write_text('{"text": "t", "score": "high"}')
    for path, column, message in (
        (
            table,
            "quality",
            r"x\.parquet: there is no column 'quality'; its columns are .*; fix the corpus's key `where`",
        ),
        (table, "label", r"column 'label' holds string, not numbers; name another one"),
        (
            words,
            "score",
            r"y\.jsonl, line 1: the key 'score' holds 'high', expected a number or null; correct",
        ),
        (lines, "quality", r"x\.jsonl, line 1: there is no key 'quality', expected a number or null"),
    ):
        with pytest.raises(UserError, match=message):
            list(documents_in(path, "x", "text", [column]))
    (tmp_path / "x.md").write_text("# Text")
    with pytest.raises(UserError, match=r"x\.md: a text has no column 'score'; remove .*`where`"):
        list(documents_in(tmp_path / "x.md", "x", "text", ["score"]))
