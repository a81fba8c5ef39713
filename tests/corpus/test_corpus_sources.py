# ruff: noqa: RUF001
"""Documents out of own files."""

import bz2
import gzip
import hashlib
import json
import lzma
import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cpt.config_sections import ColumnBounds, Filters, LocalCorpus
from cpt.corpus.documents import as_strings
from cpt.corpus.encodings import valid_text
from cpt.corpus.sources import documents_in
from cpt.errors import UserError
from download import download
from filter_documents import filter_documents


def read(path, text_column="text"):
    return [tuple(document)[:4] for document in documents_in(path, path.name, text_column)]


def test_valid_text():
    assert valid_text(None) == (None, False)
    assert valid_text("\U0001f600 é") == ("\U0001f600 é", False)
    assert valid_text(b"ab\xffc") == ("ab\ufffdc", True)
    assert valid_text("a\ud800b") == ("a\ufffdb", True)


def test_parquet(save_table, tmp_path):
    path = save_table(tmp_path / "x.parquet", {"text": ["a", None, ""], "id": [7, None, 9], "n": [1, 2, 3]})
    assert read(path) == [
        ("7", "a", "x.parquet", False),
        ("x.parquet:1", None, "x.parquet", False),
        ("9", "", "x.parquet", False),
    ]


def test_parquet_with_invalid_utf8_and_other_string_types(tmp_path):
    raw = pa.array([b"ab\xff", b"ok"])
    columns = {
        "text": pa.Array.from_buffers(pa.string(), 2, raw.buffers()),
        "id": pa.array(["p", "q"]).dictionary_encode(),
        "url": pa.array(["u", None], pa.large_string()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == [("p", "ab\ufffd", "u", True), ("q", "ok", "x.parquet", False)]


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
        ("3", "a\ufffd", path.name, True),
        (f"{path.name}:1", None, "u", False),
        (f"{path.name}:2", "b\ufffd", path.name, True),
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


def fetch(folder, files, shard=0, shards=1):
    source = LocalCorpus(source="local", files="texts/*", shards=shards)
    paths = folder / "00000.parquet", folder / "00000.json"
    download("news", source, shard, shards, *paths, files=files)
    return paths


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
    told = json.loads((tmp_path / "00000.json").read_text())["files"]
    assert ["error" in entry for entry in told] == [True, False, True, True]
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
        told = json.loads(manifest.read_text())
        assert told["sha256"] == hashlib.sha256(contents[-1]).hexdigest()
        assert (told["rows"], told["bytes"]) == (len(texts[-1]), len(contents[-1]))
        assert (told["corpus"], told["shard"]) == ("news", shard)
        source = {"source": "local", "files": "texts/*", "shards": 2, "text_column": "text"}
        assert source.items() <= told["source"].items()
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


class Labelled(pa.ExtensionType):
    """An extension type over some storage."""

    def __init__(self, storage):
        super().__init__(storage, "tests.labelled")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls(storage)


def stored(values, kind):
    """An array whose type is `kind`, or an extension type over it."""
    if isinstance(kind, Labelled):
        return pa.ExtensionArray.from_storage(kind, stored(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


TEXT_TYPES = [
    *(pa.string_view(), pa.binary_view(), pa.binary(), pa.large_binary(), pa.json_()),
    *map(Labelled, (pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string()))),
]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_any_type(tmp_path, filters, kind):
    """Read into a raw shard, and filtered as a file of the hub, which stays as it came."""
    texts = ["one line", None, "é\nand more"]
    given = texts if kind != pa.json_() else ['"one line of words"', None, '"and another line of them"']
    binary = pa.types.is_binary_view(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    column = stored([text and text.encode() for text in given] if binary else given, kind)
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "x.parquet")
    assert [row[1] for row in read(tmp_path / "x.parquet")] == given
    assert [row[0] for row in read(tmp_path / "x.parquet")] == [
        text or f"x.parquet:{n}" for n, text in enumerate(given)
    ]
    kept = filtered(tmp_path / "x.parquet", tmp_path, any_text(filters))
    assert [row[1] for row in read(kept)] == [text for text in given if text]


def test_a_dictionary_of_views_becomes_text():
    """Which Arrow can't write to parquet yet."""
    for kind in (pa.string_view(), pa.binary_view()):
        column = pa.array([b"one", None, b"two"], pa.binary_view()).cast(kind).dictionary_encode()
        assert as_strings(column).to_pylist() == ["one", None, "two"]


def any_text(filters):
    """Filters that drop no text but an empty one."""
    filters["length"] = {"minimum_lines": 1, "short_line_characters": 0, "maximum_short_line_share": 1.0}
    for key, value in filters["repetition"].items():
        filters["repetition"][key] = dict.fromkeys(value, 1.0) if isinstance(value, dict) else 1.0
    return filters


def filtered(raw, folder, filters, text_column="text", where=None):
    paths = {"documents": folder / "kept.parquet", "drops": folder / "d.csv", "examples": folder / "e.jsonl"}
    where = {key: ColumnBounds(**bounds) for key, bounds in (where or {}).items()}
    filter_documents(raw, text_column, where, Filters.model_validate(filters), "none", **paths)
    return paths["documents"]


def dropped(folder):
    lines = [line.split(",") for line in (folder / "d.csv").read_text().split("\n")[1:-1]]
    return {rule: int(count) for rule, count, _ in lines if int(count) and rule not in ("read", "kept")}


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.list_(pa.string()), pa.binary(3), pa.timestamp("s")], ids=str
)
def test_a_type_that_is_not_text_is_named(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array([None], kind)}), tmp_path / "x.parquet")
    with pytest.raises(
        UserError, match=rf"x.parquet: column 'text' holds {re.escape(str(kind))[:5]}.*, not text"
    ):
        read(tmp_path / "x.parquet")


def test_a_column_of_nulls_is_empty_text(tmp_path, filters):
    pq.write_table(pa.table({"text": pa.nulls(3)}), tmp_path / "x.parquet")
    assert [row[1] for row in read(tmp_path / "x.parquet")] == [None] * 3
    filtered(tmp_path / "x.parquet", tmp_path, filters)
    assert dropped(tmp_path) == {"empty": 3}
    output, _ = fetch(tmp_path, [tmp_path / "x.parquet"])
    filtered(output, tmp_path, filters)
    assert dropped(tmp_path) == {"empty": 3}


@pytest.mark.parametrize("name", ["text", "id", "score"])
def test_two_columns_of_one_name(tmp_path, name):
    columns = {"text": ["a"], "id": ["b"], "score": [1.0]}
    names = [*columns, name]
    table = pa.table([columns[key] for key in names], names=names)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match=rf"x.parquet: 2 columns have the name '{name}', .*different names"):
        list(documents_in(tmp_path / "x.parquet", "x", "text", ["score"]))


def test_a_key_that_is_there_twice(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"text": "about \\"text\\"", "a": {"text": 1}}\n{"text": "a", "text": "b"}'
    )
    with pytest.raises(
        UserError, match=r"x.jsonl, line 2: the key 'text' is there twice; write the line again"
    ):
        read(tmp_path / "x.jsonl")
    assert next(documents_in(tmp_path / "x.jsonl", "x", "text")).text == 'about "text"'


def test_where_compares_numbers_of_any_kind_under_any_name(tmp_path, filters):
    """On `id`, `url` and the text's own neighbours too, in own files (a raw shard) and in the hub's."""
    filters = any_text(filters)
    numbers = {"id": pa.array([1, 2, 3]), "url": pa.array([1.0, 2.0, 3.0], pa.float16())}
    numbers["price"] = pa.array([Decimal("1.00"), Decimal("2.00"), None], pa.decimal128(5, 2))
    numbers["title"] = pa.array([1, 2, 3]).dictionary_encode()
    pq.write_table(pa.table({"text": ["one", "two", "three"], **numbers}), tmp_path / "x.parquet")
    lines = [
        {"text": text, "id": n, "url": n, "price": n, "title": n} for n, text in enumerate("abc", start=1)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name in ("x.parquet", "x.jsonl"):
        for column in numbers:
            output = tmp_path / "00000.parquet"
            paths = {"documents": output, "manifest": tmp_path / "00000.json"}
            source = LocalCorpus(source="local", files="x")
            download("news", source, 0, 1, **paths, columns=[column], files=[tmp_path / name])
            for raw in (output, *([tmp_path / name] if name == "x.parquet" else [])):
                kept = filtered(raw, tmp_path, filters, where={column: {"minimum": 2, "maximum": 2}})
                assert [row[0] for row in read(kept)] == ["2"]
                assert dropped(tmp_path) == {f"where_{column}": 2}


def test_a_text_column_of_another_name_reaches_the_filters(tmp_path, filters):
    """Raw shards that are made here have the text in `text`, whatever its name was."""
    filters = any_text(filters)
    (tmp_path / "x.jsonl").write_text('{"title": "a line of text", "text": 3}')
    source = LocalCorpus(source="local", files="x", text_column="title")
    paths = {"documents": tmp_path / "00000.parquet", "manifest": tmp_path / "00000.json"}
    download("news", source, 0, 1, **paths, files=[tmp_path / "x.jsonl"])
    kept = filtered(paths["documents"], tmp_path, filters, text_column="title")
    assert [row[1] for row in read(kept)] == ["a line of text"]
    pq.write_table(pa.table({"id": ["a text that is its own name"]}), tmp_path / "x.parquet")
    filtered(tmp_path / "x.parquet", tmp_path, filters, text_column="id")


LINES = b'{"text": "one"}\n{"text": "two"}\n'


def packed_as(ending, content=LINES):
    if ending == "zst":  # a window of 2 GiB, as `zstd --ultra --long=31` states it
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
    (tmp_path / "x.txt").write_bytes(whole)  # whatever its name is
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
    assert [found[1] for found in read(tmp_path / "x.jsonl")] == [text] * 2
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
    told = json.loads(manifest.read_text())
    counts = {
        entry["name"].split("/")[-1]: entry["documents_with_replaced_characters"] for entry in told["files"]
    }
    assert counts == {"good.txt": 0, "some.txt": 1, "some.jsonl": 1}
    assert told["documents_with_replaced_characters"] == 2
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
    """Files that were joined have the mark of each."""
    mark = b"\xef\xbb\xbf"
    (tmp_path / "x.jsonl").write_bytes(mark + LINES + mark + mark + LINES)
    assert [row[1] for row in read(tmp_path / "x.jsonl")] == ["one", "two"] * 2
    (tmp_path / "x.txt").write_bytes(mark + b"a\n" + mark + b"b \xef\xbb\xbfc\n")
    assert read(tmp_path / "x.txt")[0][1] == "a\nb \ufeffc\n"
