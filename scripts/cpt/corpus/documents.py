"""Documents on disk: reads and writes parquet files in batches of rows, never whole."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cpt.arrays import load_array
from cpt.corpus.encodings import valid_text
from cpt.errors import UserError

BATCH_ROWS = 1_000
# Arrow addresses a string column's bytes with 32 bits; a batch is written before it reaches that limit.
BATCH_BYTES = 256 * 2**20
RAW_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("url", pa.string())])
ORIGIN = ("file", "format", "title")  # file that a document comes from, its format, and the heading
FILTERED_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *((name, pa.large_string()) for name in ("id", "url", "text")),
        ("bytes", pa.int64()),  # of the text, so that counting them reads no text
        ("digest", pa.binary(16)),  # see cpt.corpus.duplicates
    ]
)


def raw_schema(columns: Sequence[str]) -> pa.Schema:
    """The schema of raw shards made here; the prefix keeps `columns` of numbers apart from the others."""
    strings = [(name, pa.string()) for name in ORIGIN]
    return pa.schema([*RAW_SCHEMA, *strings, *((f"where_{column}", pa.float64()) for column in columns)])


def raw_columns(schema: pa.Schema, text_column: str, numbers: Sequence[str]) -> tuple[str, list[str]]:
    """Names of a raw shard's text column and number columns; a shard made here renames both."""
    made_here = [*RAW_SCHEMA.names, *ORIGIN]
    if schema.names[: len(made_here)] == made_here:
        return "text", [f"where_{column}" for column in numbers]
    return text_column, list(numbers)


HELD_OUT_SCHEMA = pa.schema(
    [("order", pa.uint64()), *((name, pa.string()) for name in ("id", "url", "text"))]
)


class Document(NamedTuple):
    """A raw document; `replaced`: characters that UTF-8 can't hold were replaced.

    `numbers` are its values in the requested columns.
    """

    id: str
    text: str | None
    url: str
    replaced: bool
    numbers: tuple[float | None, ...] = ()
    title: str | None = None


class CheckedFile(pq.ParquetFile):
    """A parquet file in which damage is a UserError that names the file and the row group."""

    def __init__(self, path: str | Path):
        super().__init__(path, page_checksum_verification=True)
        self.path = path

    def iter_batches(self, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        """See `pyarrow.parquet.ParquetFile.iter_batches`; UserError if the file is damaged."""
        try:
            yield from super().iter_batches(*arguments, **options)
        except (pa.ArrowException, OSError) as error:
            groups = (n for n in range(self.num_row_groups) if not self._readable(n, options.get("columns")))
            raise UserError(
                f"{self.path}: row group {next(groups, 'unknown')} (of {self.num_row_groups}, from 0 on) "
                f"can't be read ({error}); delete the file, then fetch or make it again"
            ) from None

    def _readable(self, group: int, columns: Sequence[str] | None) -> bool:
        try:
            for _ in super().iter_batches(BATCH_ROWS, [group], columns, use_threads=False):
                pass
        except (pa.ArrowException, OSError):
            return False
        return True


def open_parquet(path: str | Path, columns: Sequence[str] = ()) -> CheckedFile:
    """Open a parquet file; UserError if it is missing, cut short, or lacks one of `columns`."""
    try:
        file = CheckedFile(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; run the step that makes it") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a complete parquet file ({error}); fetch or make it again") from None
    if missing := set(columns) - set(file.schema_arrow.names):
        raise UserError(
            f"{path}: lacks the column(s) {', '.join(sorted(missing))}; delete it and make it again"
        )
    return file


def _type_of(path: str | Path, schema: pa.Schema, column: str, advice: str) -> pa.DataType:
    """The plain type of the only column of this name; otherwise UserError with `path` and `advice`."""
    places = schema.get_all_field_indices(column)
    if len(places) > 1:
        raise UserError(
            f"{path}: {len(places)} columns have the name {column!r}, and only one can be read; write the "
            f"file again with different names; {advice}"
        )
    if not places:
        raise UserError(
            f"{path}: there is no column {column!r}; its columns are {', '.join(schema.names)}; {advice}"
        )
    return _plain_type(schema.field(places[0]).type)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, without dictionary or extension type around it."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    return _plain_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def plain(column: pa.Array) -> pa.Array:
    """A column without extension type, dictionary and views: Arrow lacks most functions for these."""
    if isinstance(column.type, pa.BaseExtensionType):
        return plain(column.storage)
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, plain(column.dictionary)).dictionary_decode()
    # As bytes, since strings may hold bytes that aren't UTF-8.
    return column.cast(pa.large_binary()) if column.type in (pa.string_view(), pa.binary_view()) else column


def require_columns(
    path: str | Path, schema: pa.Schema, text_column: str, numbers: Sequence[str] = ()
) -> None:
    """UserError unless `schema` has one column of strings (or bytes) named `text_column`, and `numbers`.

    A column of nulls counts as text and as numbers. `id` and `url` may be missing, but not occur twice.
    """
    advice = "name the one that holds the text with the corpus's key text_column"
    kind = _type_of(path, schema, text_column, advice)
    if not (_holds_text(kind) or pa.types.is_null(kind)):
        raise UserError(
            f"{path}: column {text_column!r} holds {kind}, not text; set the corpus's key text_column"
        )
    for column in ("id", "url"):
        if column in schema.names:
            _type_of(path, schema, column, "or remove all but one")
    for column in numbers:
        kind = _type_of(path, schema, column, "fix the corpus's key `where`, or remove it")
        numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
        if not any(holds(kind) for holds in numeric):
            raise UserError(
                f"{path}: column {column!r} holds {kind}, not numbers; name another one in the "
                "corpus's key `where`"
            )


def _holds_text(kind: pa.DataType) -> bool:
    narrow = (pa.string(), pa.binary(), pa.string_view(), pa.binary_view())
    return kind in (*narrow, pa.large_string(), pa.large_binary())


def _values(column: pa.Array) -> list[Any]:
    column = plain(column)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # A string column may hold bytes that aren't UTF-8: to_pylist would fail on them.
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def read_batches(path: str | Path, columns: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
    """Yield the values of `columns` for up to `BATCH_ROWS` rows at a time, in file order.

    A column that the file lacks is null throughout.
    """
    file = open_parquet(path)
    present = [name for name in dict.fromkeys(columns) if name in file.schema_arrow.names]
    for group in range(file.num_row_groups):
        left = file.metadata.row_group(group).num_rows
        batches = file.iter_batches(BATCH_ROWS, [group], present, use_threads=False)
        while left:
            batch = next(batches)
            rows = batch.num_rows
            left -= rows
            if not left:
                del batches  # frees twice the memory of a long text
            values = {name: batch.column(name) if name in present else pa.nulls(rows) for name in columns}
            del batch  # so that the consumer can free columns by removing them from `values`
            yield values


def read_rows(path: str | Path, columns: Sequence[str]) -> Iterator[tuple]:
    """Yield one tuple per row, in file order, with the values of `columns`.

    Strings and binaries come as bytes. A column that the file lacks gives None. Holds at most
    `BATCH_ROWS` rows.
    """
    for batch in read_batches(path, columns):
        yield from zip(*(_values(batch[name]) for name in columns), strict=True)


def as_strings(column: pa.Array) -> pa.Array:
    """Values of any type as large strings of valid UTF-8; each becomes what `as_name` gives."""
    column = plain(column)
    if _holds_text(column.type):
        try:
            # Finds bytes that aren't UTF-8 in a column of strings; the cast checks columns of bytes.
            column.validate(full=True)
            return column.cast(pa.large_string())
        except pa.ArrowInvalid:
            pass
    return pa.array(map(as_name, _values(column)), pa.large_string())


def column_of(values: Sequence[Any] | np.ndarray, kind: pa.DataType) -> pa.Array:
    """An Arrow array of strings (None is a null), or of numbers, bools or equally long bytes without nulls.

    `pa.array` would import pandas, which takes longer than all other imports of a stage.
    """
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        return builder.finish().cast(kind)
    if pa.types.is_boolean(kind):
        content = np.packbits(np.asarray(values, bool), bitorder="little")
    elif pa.types.is_fixed_size_binary(kind):
        content = b"".join(values)
    else:
        content = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(content)])


def utf8_of(column: pa.Array) -> Iterator[np.ndarray]:
    """The bytes (uint8, not copied) of each value of a column of large strings; no bytes for a null."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].tolist()
    content = np.frombuffer(data or b"", np.uint8)
    return (content[begin:end] for begin, end in itertools.pairwise(ends))


def text_bytes(path: str | Path, chosen: np.ndarray) -> int:
    """Bytes of UTF-8 of those filtered documents of a file for which `chosen` (bool [documents]) is true."""
    batches = open_parquet(path).iter_batches(2**18, columns=["bytes"], use_threads=False)
    sizes = [np.from_dlpack(batch.column(0)) for batch in batches]  # `to_numpy` would import pandas
    return int(np.concatenate([np.empty(0, np.int64), *sizes])[chosen].sum())


def as_name(value: Any) -> str | None:
    """An id or address of any type as text; None stays None."""
    return valid_text(value if isinstance(value, str | bytes) or value is None else str(value))[0]


class RowWriter:
    """Collects rows and writes them as row groups of at most `BATCH_ROWS`."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema):
        self.writer, self.schema = writer, schema
        self.rows: list[tuple] = []
        self.size = self.count = 0

    def add(self, *values: Any) -> None:
        """Append a row of values in the schema's order."""
        self.rows.append(values)
        self.count += 1
        self.size += sum(4 * len(value) for value in values if isinstance(value, str))
        if len(self.rows) == BATCH_ROWS or self.size > BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows as one row group."""
        if self.rows:
            columns = zip(*self.rows, strict=True)
            arrays = [
                column_of(column, kind) for column, kind in zip(columns, self.schema.types, strict=True)
            ]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows, self.size = [], 0


def parquet_writer(path: str | Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of a zstd-compressed parquet file.

    The file has no dictionaries and no minima and maxima: both take a multiple of a long text's memory.
    """
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )


@contextmanager
def row_writer(path: str | Path, schema: pa.Schema) -> Iterator[RowWriter]:
    """A `RowWriter` onto a parquet file at `path`; see `parquet_writer`."""
    with parquet_writer(path, schema) as writer:
        rows = RowWriter(writer, schema)
        yield rows
        rows.flush()


def load_keep(path: str | Path, documents: str | Path) -> np.ndarray:
    """A keep-list: bool [documents]. Raises UserError if it doesn't fit the file of `documents`."""
    folder = Path(path).parent
    # One rule writes all lists of duplicates: Snakemake makes their whole folder again, never one file.
    whole = folder if folder.name.endswith("deduplicated") else None
    keep = load_array(path, whole=whole)
    rows = open_parquet(documents, ["id", "url", "text"]).metadata.num_rows
    if keep.shape != (rows,) or keep.dtype != bool:
        raise UserError(
            f"{path}: a keep-list of {keep.dtype} {list(keep.shape)} doesn't fit the {rows} documents of "
            f"{documents}; delete {whole or 'it'} and run again"
        )
    return keep
