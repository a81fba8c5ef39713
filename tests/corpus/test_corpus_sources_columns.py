"""Columns of own files and of the hub's files: text of any type, numbers of any kind."""

import json
import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_sources import documents_of as read
from own_sources import fetch

from cpt.config_sections import ColumnBounds, Filters, LocalCorpus
from cpt.corpus.documents import as_strings
from cpt.corpus.sources import documents_in
from cpt.errors import UserError
from download import download
from filter_documents import filter_documents


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
    pa.string_view(), pa.binary_view(), pa.binary(), pa.large_binary(), pa.json_(),
    *map(Labelled, (pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string()))),
]  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_any_type(tmp_path, filters, kind):
    """The text is read from an own file, and the stage filters it as a file of the hub."""
    texts = ["one line", None, "é\nand more"]
    values = texts if kind != pa.json_() else ['"one line of words"', None, '"and another line of them"']
    binary = pa.types.is_binary_view(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    column = stored([text and text.encode() for text in values] if binary else values, kind)
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "x.parquet")
    assert [row[1] for row in read(tmp_path / "x.parquet")] == values
    assert [row[0] for row in read(tmp_path / "x.parquet")] == [
        text or f"x.parquet:{n}" for n, text in enumerate(values)
    ]
    kept = filtered(tmp_path / "x.parquet", tmp_path, any_text(filters))
    assert [row[1] for row in read(kept)] == [text for text in values if text]


def test_a_dictionary_of_views_becomes_text():
    """Arrow can't write this type to parquet yet."""
    for kind in (pa.string_view(), pa.binary_view()):
        column = pa.array([b"one", None, b"two"], pa.binary_view()).cast(kind).dictionary_encode()
        assert as_strings(column).to_pylist() == ["one", None, "two"]


def any_text(filters):
    """Filters that drop only empty text."""
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
    """Also the columns `id` and `url`, both in own files (a raw shard) and in the hub's files."""
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
    """The raw shard of an own file has the text in `text`, whatever the column's name was."""
    filters = any_text(filters)
    (tmp_path / "x.jsonl").write_text('{"title": "a line of text", "text": 3}')
    source = LocalCorpus(source="local", files="x", text_column="title")
    paths = {"documents": tmp_path / "00000.parquet", "manifest": tmp_path / "00000.json"}
    download("news", source, 0, 1, **paths, files=[tmp_path / "x.jsonl"])
    kept = filtered(paths["documents"], tmp_path, filters, text_column="title")
    assert [row[1] for row in read(kept)] == ["a line of text"]
    pq.write_table(pa.table({"id": ["a text that is its own name"]}), tmp_path / "x.parquet")
    filtered(tmp_path / "x.parquet", tmp_path, filters, text_column="id")
