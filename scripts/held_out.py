"""Gather a corpus's held-out documents from its shards, in an order of which any prefix is a fair sample."""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cpt.command import command_parser, run
from cpt.corpus.documents import BATCH_ROWS, HELD_OUT_SCHEMA, open_parquet
from cpt.errors import UserError
from cpt.files import atomic


def main(arguments: argparse.Namespace) -> None:
    files = [open_parquet(path, HELD_OUT_SCHEMA.names) for path in arguments.inputs]
    batches = (batch for file in files for batch in file.iter_batches(BATCH_ROWS, use_threads=False))
    table = pa.Table.from_batches(batches, HELD_OUT_SCHEMA)
    if not table.num_rows:
        raise UserError(
            f"corpus {arguments.corpus}: no document was held out; raise held_out.share, or look at the "
            "corpus's drops.csv if its filters left none"
        )
    # Rows may move far: 64-bit offsets, so that the sorted text may exceed 2 GiB.
    wide = [pa.large_string() if pa.types.is_string(kind) else kind for kind in table.schema.types]
    table = table.cast(pa.schema(list(zip(table.schema.names, wide, strict=True))))
    table = table.sort_by([("order", "ascending"), ("id", "ascending")])
    with atomic(arguments.output) as temporary:
        pq.write_table(
            table, temporary, compression="zstd", row_group_size=BATCH_ROWS, write_page_checksum=True
        )


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--corpus", required=True, help="the corpus's name in the config")
    parser.add_argument("--inputs", type=Path, nargs="+", required=True, help="held-out documents per shard")
    parser.add_argument("--output", type=Path, required=True, help="all of them (.parquet)")
    run(main, parser)
