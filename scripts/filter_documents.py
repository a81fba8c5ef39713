"""Drop documents that are too short or repeat themselves (paper 3.2.1)."""

import argparse
from pathlib import Path

from cpt.command import command_parser, json_value, run
from cpt.corpus.documents import (
    FILTERED_SCHEMA,
    as_name,
    open_parquet,
    read_rows,
    require_text_column,
    row_writer,
    valid_text,
)
from cpt.corpus.drops import DropTable
from cpt.corpus.filters import check, rule_names
from cpt.files import atomic
from cpt.progress import Progress


def main(arguments: argparse.Namespace) -> None:
    file = open_parquet(arguments.input)
    require_text_column(arguments.input, file.schema_arrow, arguments.text_column)
    table = DropTable(rule_names(arguments.settings), "bytes")
    columns = [arguments.text_column, "id", "url"]
    with atomic(arguments.output) as temporary, row_writer(temporary, FILTERED_SCHEMA) as kept:
        with Progress(f"filtering {arguments.input}", file.metadata.num_rows, "documents") as progress:
            for row, (raw, name, url) in enumerate(read_rows(arguments.input, columns)):
                text, _ = valid_text(raw)
                name, url = as_name(name), as_name(url)
                size = len(text.encode()) if text else 0
                drop = check(text, arguments.settings)
                table.count(drop.rule if drop else "kept", size)
                if drop:
                    table.example(*drop, name, url, text or "")
                else:
                    kept.add(row, name, url, size, text)
                progress.advance()
    table.write(arguments.drops, arguments.examples)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="the raw shard (.parquet)")
    parser.add_argument("--text-column", required=True, help="the column that holds the text")
    parser.add_argument("--settings", type=json_value, required=True, help="the config's `filters`")
    parser.add_argument("--output", type=Path, required=True, help="the documents kept (.parquet)")
    parser.add_argument("--drops", type=Path, required=True, help="counts per rule (.csv)")
    parser.add_argument("--examples", type=Path, required=True, help="dropped documents to read (.jsonl)")
    run(main, parser)
