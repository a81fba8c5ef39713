"""Damaged files are reported with their name; odd documents pass the stages unchanged."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stages import prose, run_all, stages_of
from tokenizers import Tokenizer

from cpt.arrays import load_array, save_array
from cpt.corpus.documents import FILTERED_SCHEMA, load_keep, open_parquet, read_rows, row_writer
from cpt.corpus.drops import read_tables
from cpt.errors import DamagedFileError, UserError

TESTS = Path(__file__).resolve().parents[1]
LONG = 2_000_000  # characters of one line


@pytest.fixture
def table(tmp_path):
    """A file in three row groups, as the stages write it, and its rows."""
    path = tmp_path / "00000.parquet"
    with row_writer(path, FILTERED_SCHEMA) as rows:
        for row in range(2_100):
            rows.add(row, f"id {row}", None, f"text {row} of {row % 7} and {row % 11}", 20, b"\0" * 16)
    return path, list(read_rows(path, FILTERED_SCHEMA.names))


def test_a_flipped_bit_never_passes(table):
    """A page's checksum covers its content; a bit of the footer may hold nothing that is read."""
    path, rows = table
    whole, chance, errors = path.read_bytes(), random.Random(0), 0
    pages = open_parquet(path).metadata.row_group(2).column(0).data_page_offset
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(4, pages)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert list(read_rows(path, FILTERED_SCHEMA.names)) == rows
        except UserError as error:
            assert str(error).startswith(str(path))
            errors += 1
    assert errors > 50


def test_damage_names_the_row_group(table):
    path, _ = table
    column = open_parquet(path).metadata.row_group(1).column(3)
    content = bytearray(path.read_bytes())
    content[
        (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2
    ] ^= 1
    path.write_bytes(content)
    rows = read_rows(path, ["text"])
    with pytest.raises(
        UserError, match=r"00000.parquet: row group 1 \(of 3, from 0 on\) can't be read .*CRC"
    ):
        list(rows)
    assert len(list(read_rows(path, ["id"]))) == 2_100  # the other columns are whole


def test_columns_that_are_missing_are_named(table):
    with pytest.raises(UserError, match=r"00000.parquet: lacks the column\(s\) order, words; delete it"):
        open_parquet(table[0], ["text", "order", "words"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"x.parquet: there is no such file; run the step that makes it"):
        open_parquet(tmp_path / "x.parquet")


@pytest.mark.parametrize("array", [np.zeros(0, bool), np.ones(3_990, bool), np.arange(9, dtype=np.uint64)])
def test_arrays_are_numpys_own_bytes(tmp_path, array):
    with open(tmp_path / "x.npy", "wb") as file:
        save_array(file, array)
    np.save(tmp_path / "y.npy", array)
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()
    assert np.array_equal(load_array(tmp_path / "x.npy"), array)


def test_an_array_on_a_full_disk_is_an_error():
    """NumPy's own `save` doesn't notice: C buffers such a small array until the file closes."""
    with pytest.raises(OSError, match="No space left on device"):
        with open("/dev/full", "wb") as file:
            save_array(file, np.zeros(3_000, bool))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text", None])
def test_a_damaged_array(tmp_path, content):
    folder = tmp_path / "deduplicated"  # a folder that its stage writes as a whole
    folder.mkdir()
    path = folder / "x.npy"
    np.save(path, np.zeros(100, bool))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DamagedFileError, match=r"x.npy: not a complete array .*; delete it and run again"):
        load_array(path)
    with pytest.raises(UserError, match=rf"x.npy: not a complete array .*; delete {folder} and run again"):
        load_keep(path, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a complete table"),
        ("rule,documents,bytes\n", "not a complete table"),
        ("rule,documents,bytes\nread,3,9\nkept,3", "not a complete table"),
        ("rule,documents,bytes\nread,3,9\nkept,3,9.5\n", "not a complete table"),
        ("rule,documents,bytes\nread,3,9\nempty,1,0\n", "ends before its last row, kept"),
    ],
)
def test_a_damaged_table_of_drops(tmp_path, content, message):
    (tmp_path / "00000.drops.csv").write_text(content)
    with pytest.raises(DamagedFileError, match=rf"00000\.drops\.csv: {message}; delete it and run again"):
        read_tables([tmp_path / "00000.drops.csv"])


def long_line(seed: int) -> str:
    letters = np.random.default_rng(seed).integers(97, 123, LONG, np.uint8)
    letters[np.random.default_rng(seed).integers(0, LONG, LONG // 6)] = 32
    return letters.tobytes().decode()


def test_odd_documents_end_in_the_tokens_or_in_the_drop_table(model_folder, tmp_path, filters):
    """Nulls, lone surrogates, NUL, CRLF, invalid UTF-8, one long line; a shard that loses all documents."""
    base = tmp_path
    for folder in ("sources", "sources/benchmarks"):
        (base / folder).mkdir()
    (base / "model").symlink_to(model_folder)
    items = {"task": ["t"], "item": [0], "text": [prose(99)]}
    pq.write_table(pa.table(items), base / "sources" / "benchmarks" / "items.parquet")
    odd = ["a\ud800b", "NUL \0 \x04", prose(1).replace("\n", "\r\n"), prose(1), "", None, " \u3000\n"]
    odd += ["<|endoftext|>", "\ufeffx", "\u202eabc", "x", long_line(0), prose(99), prose(2)]
    lines = [json.dumps({"text": text}).encode() for text in odd] + [b'{"text": "\xff\xfe\xc3("}']
    (base / "sources" / "odd-0.jsonl").write_bytes(b"\r\n".join(lines))
    (base / "sources" / "odd-1.jsonl").write_bytes(b'{"text": null}\n' * 3)
    expected = ["a\ufffdb", odd[1], odd[2], *odd[7:12], odd[13], "\ufffd\ufffd\ufffd("]

    every = {key: 1.0 for key in filters["repetition"] if not key.endswith("ngram_character_share")}
    every |= {"top_ngram_character_share": dict.fromkeys((2, 3, 4), 1.0)}
    every |= {"duplicate_ngram_character_share": dict.fromkeys(range(5, 11), 1.0)}
    length = {"minimum_lines": 1, "short_line_characters": 30, "maximum_short_line_share": 1.0}
    quality = {"minimum_bytes_per_token": 0.0, "maximum_bytes_per_token": 1e9}
    quality |= {"maximum_unknown_share": 1.0, "minimum_distinct_share": 0.0, "maximum_run_tokens": LONG}
    rules = {"length": length, "repetition": every, "token_quality": quality}
    run_all(stages_of(base, rules, {"odd": 2}))

    folder = base / "corpora" / "odd"
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    ids, ends = (
        np.fromfile(folder / "tokens" / "00000.tokens", "<u2"),
        load_array(folder / "tokens" / "00000.ends.npy"),
    )
    texts = [tokenizer.decode(part[:-1].tolist()) for part in np.split(ids, ends.astype(int))[:-1]]
    held_out = [text.decode() for (text,) in read_rows(folder / "held_out" / "all.parquet", ["text"])]
    assert texts == [text for text in expected if text not in held_out]
    assert sorted(texts + held_out) == sorted(expected)
    assert open_parquet(folder / "filtered" / "00001.parquet").metadata.num_rows == 0
    assert load_array(folder / "decontaminated" / "00001.keep.npy").shape == (0,)
    assert (folder / "tokens" / "00001.tokens").read_bytes() == b""
    statistics = (base / "tables" / "statistics.csv").read_text()
    assert "odd,raw,,,18," in statistics
    assert "odd,filter,empty,,6," in statistics
    assert "odd,duplicates,,,1," in statistics
    assert "odd,contaminated,dropped,,1," in statistics


def test_every_row_of_the_table_of_faults_is_tested():
    rows = [
        line for line in (TESTS.parent / "docs" / "faults.md").read_text().splitlines() if line[:2] == "| "
    ]
    assert len(rows) > 20
    for row in rows[2:]:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row.split(" | ")[-1])
        assert named, row
        for file, test in named:
            (path,) = TESTS.rglob(file)
            assert f"\ndef {test}(" in path.read_text(), row
