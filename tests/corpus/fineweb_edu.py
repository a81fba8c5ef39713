"""Files with FineWeb-Edu's layout and schema (version 1.4.0): ten columns, row groups of 1,000, snappy."""

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq

REPO = "HuggingFaceFW/fineweb-edu"
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("text", "id", "dump", "url", "file_path", "language")]
    + [("language_score", pa.float64()), ("token_count", pa.int64())]
    + [("score", pa.float64()), ("int_score", pa.int64())]
)


def parquet_file(rows: int, seed: int) -> bytes:
    """A file of `rows` documents; one paragraph per line, no blank lines."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(900)]
    columns = {name: [] for name in SCHEMA.names}
    for row in range(rows):
        text = "\n".join(" ".join(chance.choices(words, k=30)) for _ in range(chance.randint(1, 6)))
        score = chance.uniform(2.5, 5)
        values = [text, f"<urn:uuid:{seed:08x}-{row:08x}>", "CC-MAIN-2024-10", f"https://example.org/{row}"]
        values += ["s3://commoncrawl/crawl-data/CC-MAIN-2024-10/x.warc.gz", "en", 0.95, len(text) // 4]
        for name, value in zip(SCHEMA.names, [*values, score, round(score)], strict=True):
            columns[name].append(value)
    sink = io.BytesIO()
    table = pa.table(columns, SCHEMA)
    pq.write_table(table, sink, row_group_size=1_000, compression="snappy")
    return sink.getvalue()


def repository() -> dict[str, bytes]:
    """Path to bytes: some files of `sample/10BT`, one of `data`, one of JSON lines, and the card."""
    files = {f"sample/10BT/{number:03d}_00000.parquet": parquet_file(1_500, number) for number in range(3)}
    files["data/CC-MAIN-2024-10/000_00000.parquet"] = parquet_file(20, 9)
    files["lines/part.jsonl"] = b"".join(b'{"text": "line %d of git\'s own file"}\n' % i for i in range(50))
    return {**files, "README.md": b"# FineWeb-Edu\n"}
