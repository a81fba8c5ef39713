# ruff: noqa: RUF001
"""Own files that are compressed, in any encoding, or only pointers to other files."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from own_sources import documents_of as read
from own_sources import fetch

from cpt.errors import UserError

LINES = b'{"text": "one"}\n{"text": "two"}\n'


def packed_as(ending, content=LINES):
    if ending == "zst":  # a window of 2 GiB, as `zstd --ultra --long=31` sets
        parameters = zstandard.ZstdCompressionParameters(window_log=31, write_content_size=0)
        stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return stream.compress(content) + stream.flush()
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[ending](content)


@pytest.mark.parametrize("ending", ["gz", "zst", "bz2", "xz"])
def test_packed_files(tmp_path, ending):
    whole = packed_as(ending)
    path = tmp_path / f"x.ndjson.{ending}"
    padding = b"\0" * 512 if ending in ("gz", "xz") else b""
    for content in (whole, whole + packed_as(ending), whole + padding, LINES):
        path.write_bytes(content)
        times = 2 if content == whole * 2 else 1
        assert [row[1] for row in read(path)] == ["one", "two"] * times
    path.write_bytes(whole[:-3])
    with pytest.raises(
        UserError, match=rf"x.ndjson.{ending}: can't be read to its end .*; fetch or make it again"
    ):
        read(path)
    (tmp_path / "x.txt").write_bytes(whole)  # the content decides, not the name
    if ending == "zst":  # readers have less memory than such a window may need
        with pytest.raises(UserError, match=r"x.txt: it was packed with a larger window .*zstd -d --long=31"):
            read(tmp_path / "x.txt")
    else:
        assert [row[1] for row in read(tmp_path / "x.txt")] == [LINES.decode()]


@pytest.mark.parametrize("name", ["X.JSONL", "x.Ndjson", "X.JSONL.GZ", "x.PARQUET", "x.TXT", "X.Md.ZST"])
def test_endings_in_capitals(save_table, tmp_path, name):
    path = tmp_path / name
    if name.endswith("PARQUET"):
        save_table(path, {"text": ["one", "two"]})
    else:
        path.write_bytes(LINES if "s" in name.lower() and "md" not in name.lower() else b"one")
        if name.endswith("GZ"):
            path.write_bytes(packed_as("gz"))
    assert read(path)[0][1] == "one"
    output, _ = fetch(tmp_path, [path])
    assert pq.read_table(output)["text"].to_pylist()[0] == "one"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
def test_byte_order_marks_say_the_encoding(tmp_path, encoding):
    text = "The café opens at eight.\n" + "Ölung 漢字 😀\n"
    mark = "" if encoding in ("utf-16", "utf-32", "utf-8-sig") else "\ufeff"
    (tmp_path / "x.txt").write_bytes((mark + text).encode(encoding))
    assert read(tmp_path / "x.txt") == [("x.txt:0", text, "x.txt", False)]
    row = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "x.jsonl").write_bytes(f"{mark}{row}\n{row}\n".encode(encoding))
    assert [document[1] for document in read(tmp_path / "x.jsonl")] == [text] * 2
    pq.write_table(pa.table({"text": pa.array([(mark + text).encode(encoding)])}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet")[0][1].removeprefix("\ufeff") == text


def test_wrong_encodings_are_named(tmp_path):
    latin = "Où est le café de la gare ? Là-bas, près du théâtre, à côté de l'église.\n" * 9
    russian = "Все люди рождаются свободными и равными в своем достоинстве и правах.\n" * 9
    for name, content, message in (
        ("latin.txt", latin.encode("latin-1"), r"it is not UTF-8 \(\d+ of .* can't be read\); .*iconv -f"),
        ("russian.md", russian.encode("koi8-r"), r"it is not UTF-8 .*iconv -f KOI8_R -t UTF-8"),
        (
            "wide.txt",
            "The café opens.\n".encode("utf-16-le"),
            r"it seems to be UTF-16LE without a byte-order mark",
        ),
        ("wide.md", "The café opens.\n".encode("utf-32-be"), r"it seems to be UTF-32BE without a byte-order"),
        ("zeros.txt", b"text\0\1\2and\0", r"it holds NUL characters, so it is no text"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            read(tmp_path / name)
    (tmp_path / "wide.jsonl").write_bytes('{"text": "a"}\n'.encode("utf-16-le"))
    with pytest.raises(UserError, match=r"wide.jsonl, line 1: not JSON .*it holds NUL bytes: is it UTF-16\?"):
        read(tmp_path / "wide.jsonl")
    (tmp_path / "odd.jsonl").write_bytes('\ufeff{"text": "a"}\n'.encode("utf-16-le")[:-3])
    with pytest.raises(UserError, match=r"odd.jsonl: it begins as UTF-16, but isn't"):
        read(tmp_path / "odd.jsonl")


def test_replaced_characters_are_counted_for_their_file(tmp_path, caplog):
    (tmp_path / "good.txt").write_text("nothing wrong")
    (tmp_path / "some.txt").write_bytes(b"long enough " * 50 + b"\xff")
    (tmp_path / "some.jsonl").write_bytes(b'{"text": "a\xff"}\n{"text": "b"}\n')
    _, manifest = fetch(tmp_path, sorted(tmp_path.iterdir()))
    facts = json.loads(manifest.read_text())
    counts = {
        entry["name"].split("/")[-1]: entry["documents_with_replaced_characters"] for entry in facts["files"]
    }
    assert counts == {"good.txt": 0, "some.txt": 1, "some.jsonl": 1}
    assert facts["documents_with_replaced_characters"] == 2
    assert "some.jsonl: 1 of its documents have bytes" in caplog.text
    assert "good.txt" not in caplog.text


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.txt", "x.pdf", "x.docx", "x.jsonl.gz"])
def test_pointers_to_large_files(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
    for content, command in (
        (pointer, "git lfs pull"),
        ("/annex/objects/SHA256E-s9--1f.txt\n", "git annex get"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(
            UserError, match=rf"{name}: a pointer of .*, not the file itself; run `{command}`"
        ):
            read(tmp_path / name)


def test_byte_order_marks_inside_a_file(tmp_path):
    """Concatenated files keep the byte-order mark of each."""
    mark = b"\xef\xbb\xbf"
    (tmp_path / "x.jsonl").write_bytes(mark + LINES + mark + mark + LINES)
    assert [row[1] for row in read(tmp_path / "x.jsonl")] == ["one", "two"] * 2
    (tmp_path / "x.txt").write_bytes(mark + b"a\n" + mark + b"b \xef\xbb\xbfc\n")
    assert read(tmp_path / "x.txt")[0][1] == "a\nb \ufeffc\n"
