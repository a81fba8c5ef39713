"""Drop documents that are out of a corpus's bounds, too short, or repeat themselves (paper 3.2.1)."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from cpt.command import command_parser, json_value, run
from cpt.corpus.columns import ColumnRules, require_number_columns
from cpt.corpus.documents import (
    FILTERED_SCHEMA,
    as_strings,
    open_parquet,
    parquet_writer,
    read_batches,
    require_text_column,
    utf8_of,
)
from cpt.corpus.drops import DropTable
from cpt.corpus.duplicates import digest
from cpt.corpus.filters import Rules
from cpt.files import atomic
from cpt.progress import Progress


def filtered(
    batch: dict[str, pa.Array],
    first_row: int,
    columns: ColumnRules,
    rules: Rules,
    table: DropTable,
    arguments: argparse.Namespace,
) -> pa.RecordBatch:
    """The rows of a batch that break no rule; the others are counted. Takes the columns out of the batch."""
    out_of_bounds = columns.check([batch.pop(key).to_pylist() for key in columns.columns])
    names, urls, texts = (as_strings(batch.pop(key)) for key in ("id", "url", arguments.text_column))
    digests: list[bytes | None] = []
    sizes = np.empty(len(texts), np.int64)
    for number, text in enumerate(utf8_of(texts)):
        drop = (out_of_bounds[number] if out_of_bounds else None) or rules.check(text)
        sizes[number] = len(text)
        table.count(drop.rule if drop else "kept", len(text))
        if drop and table.wants(drop.rule):
            name, url, content = (column[number].as_py() for column in (names, urls, texts))
            table.example(*drop, name, url, content or "")
        digests.append(None if drop else digest(text, arguments.normalize))
    rows = pa.array(np.arange(first_row, first_row + len(texts)))
    arrays = [rows, names, urls, texts, pa.array(sizes), pa.array(digests, pa.binary(16))]
    return pa.RecordBatch.from_arrays(arrays, schema=FILTERED_SCHEMA).filter(arrays[-1].is_valid())


def main(arguments: argparse.Namespace) -> None:
    file = open_parquet(arguments.input)
    require_text_column(arguments.input, file.schema_arrow, arguments.text_column)
    columns, rules = ColumnRules(arguments.settings.get("where", {})), Rules(arguments.settings)
    require_number_columns(arguments.input, file.schema_arrow, columns.columns)
    table = DropTable([*columns.names, *rules.names], "bytes")
    with (
        atomic(arguments.output) as temporary,
        parquet_writer(temporary, FILTERED_SCHEMA) as output,
        Progress(f"filtering {arguments.input}", file.metadata.num_rows, "documents") as progress,
    ):
        for batch in read_batches(arguments.input, ["id", "url", arguments.text_column, *columns.columns]):
            output.write_batch(filtered(batch, table.read, columns, rules, table, arguments))
            progress.advance(table.read - progress.done)
    table.write(arguments.drops, arguments.examples)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="the raw shard (.parquet)")
    parser.add_argument("--text-column", required=True, help="the column that holds the text")
    parser.add_argument(
        "--settings", type=json_value, required=True, help="the config's `filters`, and the corpus's `where`"
    )
    parser.add_argument("--normalize", required=True, help="the config's `deduplicate.normalize`")
    parser.add_argument("--output", type=Path, required=True, help="the documents kept (.parquet)")
    parser.add_argument("--drops", type=Path, required=True, help="counts per rule (.csv)")
    parser.add_argument("--examples", type=Path, required=True, help="dropped documents to read (.jsonl)")
    run(main, parser)
