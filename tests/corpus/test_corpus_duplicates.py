"""Exact deduplication keeps the first of equal texts, for any partitions and shards."""

import itertools
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt.corpus.duplicates import digest, repeated_positions, write_partitions
from cpt.corpus.keep_lists import keep_lists
from cpt.corpus.kernels import as_utf8
from cpt.corpus.words import with_single_spaces
from deduplicate import deduplicate


def digests(texts: list[str], how: str) -> list[bytes]:
    return [digest(as_utf8(text), how) for text in texts]


def repeated(texts, folder, how="none", partitions=4) -> set[int]:
    folder.mkdir()
    records = digests(texts, how)
    blocks = (b"".join(records[begin : begin + 300]) for begin in range(0, len(records), 300))
    assert write_partitions(blocks, partitions, folder) == len(texts)
    return {int(position) for part in repeated_positions(folder, partitions) for position in part}


def test_first_of_equals_wins(tmp_path):
    assert repeated(["a", "b", "a", "c", "b", "a"], tmp_path / "x") == {2, 4, 5}


@pytest.mark.parametrize("partitions", [1, 3, 64, 1000])
def test_partitions_do_not_matter(tmp_path, partitions):
    generator = random.Random(0)
    texts = [str(generator.randrange(700)) for _ in range(2000)]
    expected = {i for i, text in enumerate(texts) if text in texts[:i]}
    assert repeated(texts, tmp_path / "x", partitions=partitions) == expected


def test_normalization(tmp_path):
    texts = ["a b", " a\r\n\tb ", "ab"]
    assert repeated(texts, tmp_path / "x", "whitespace") == {1}
    assert repeated(texts, tmp_path / "y", "none") == set()


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("aé \n\t\x1f\x85\u3000"))
def test_single_spaces(text):
    assert with_single_spaces(as_utf8(text)).tobytes().decode() == " ".join(text.split())


def survivors(save_table, root, corpora: dict[str, list[list[str]]], partitions: int) -> list[str]:
    """The texts that the stage keeps from the shards of all corpora."""
    shards = [texts for parts in corpora.values() for texts in parts]
    documents = [root / f"{n}.parquet" for n in range(len(shards))]
    keep = [root / f"{corpus}.deduplicated" for corpus in corpora]
    for path, texts in zip(documents, shards, strict=True):
        rows = {"digest": pa.array(digests(texts, "whitespace"), pa.binary(16))}
        rows["bytes"] = np.array([len(text.encode()) for text in texts], np.int64)
        save_table(path, rows)
    counts = {corpus: len(parts) for corpus, parts in corpora.items()}
    deduplicate(counts, documents, partitions, keep, root / "duplicates.csv")
    assert not list(root.rglob(".*"))
    lists = [np.load(path) for path in keep_lists(keep, counts)]
    assert all(each.dtype == bool for each in lists)
    everything = zip(itertools.chain(*shards), np.concatenate(lists), strict=True)
    return [text for text, stays in everything if stays]


def test_over_corpora_and_shards(save_table, tmp_path):
    first, second = ["a", "b", "a"], ["b", "c d"]
    other = ["c  d", "e", "a"]
    shards = {"one": [first, second], "two": [other]}
    assert survivors(save_table, tmp_path / "r", shards, 8) == ["a", "b", "c d", "e"]
    table = (tmp_path / "r" / "duplicates.csv").read_text()
    assert table.splitlines() == [
        "corpus,shard,documents,duplicates,bytes",
        "one,00000,3,1,1",
        "one,00001,2,1,1",
        "two,00000,3,2,5",
    ]
    again = {"one": [first + second, []], "two": [other[:1], other[1:]]}
    assert survivors(save_table, tmp_path / "s", again, 1) == ["a", "b", "c d", "e"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_assignment_to_shards_and_partitions_keeps_the_same_texts(save_table, data):
    texts = data.draw(st.lists(st.text("ab \n", max_size=3), max_size=30))
    shard_of = data.draw(st.lists(st.integers(0, 4), min_size=len(texts), max_size=len(texts)))
    shuffled = data.draw(st.permutations(range(len(texts))))
    partitions = data.draw(st.integers(1, 300))
    shards = [[texts[i] for i in shuffled if shard_of[i] == number] for number in range(5)]
    corpora = {"one": shards[:2], "two": shards[2:]}
    with tempfile.TemporaryDirectory() as folder:
        kept = survivors(save_table, Path(folder), corpora, partitions)
    in_order = [text for shard in shards for text in shard]
    first = {" ".join(text.split()): text for text in reversed(in_order)}
    assert sorted(kept) == sorted(first.values())


def test_digests_with_equal_halves_are_distinguished(tmp_path):
    # The first two digests differ only in their lower 64 bits; the third repeats the first.
    block = b"".join(
        bytes(7) + bytes([high]) + bytes(7) + bytes([low]) for high, low in [(1, 1), (1, 2), (1, 1)]
    )
    write_partitions([block, block[:16], bytes(16)], 3, tmp_path)
    assert [part.tolist() for part in repeated_positions(tmp_path, 3)] == [[2, 3]]


# 10 million digests in blocks; in the second half, every tenth record repeats an earlier one. The process
# may grow by only 192 MiB; a set of the digests takes more than 900.
TEN_MILLION = """
import re, resource, sys, tempfile
from pathlib import Path
import numpy as np
from cpt.corpus.duplicates import repeated_positions, write_partitions

COUNT, BLOCK = 10_000_000, 2**18

def blocks():
    for start in range(0, COUNT, BLOCK):
        number = np.arange(start, min(start + BLOCK, COUNT), dtype=np.uint64)
        repeats = (number >= COUNT // 2) & (number % 10 == 0)
        source = np.where(repeats, number - COUNT // 2 + 1, number)
        mixed = source * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        yield np.stack([mixed, source], axis=1).astype(">u8").tobytes()

with open("/proc/self/status") as status:
    now = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", status.read())[1])
resource.setrlimit(resource.RLIMIT_AS, (now + 192 * 2**20,) * 2)
if sys.argv[1] == "set":
    seen = set()
    for block in blocks():
        seen.update(block[i : i + 16] for i in range(0, len(block), 16))
with tempfile.TemporaryDirectory() as folder:
    assert write_partitions(blocks(), 64, Path(folder)) == COUNT
    found = np.zeros(COUNT, bool)
    for positions in repeated_positions(Path(folder), 64):
        found[positions] = True
expected = np.zeros(COUNT, bool)
expected[COUNT // 2 :: 10] = True
print(np.array_equal(found, expected), found.sum())
"""


def test_ten_million_records_in_bounded_memory():
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    results = [
        subprocess.run([sys.executable, "-c", TEN_MILLION, how], capture_output=True, text=True, cwd=scripts)
        for how in ("partitions", "set")
    ]
    assert results[0].stdout == "True 500000\n", results[0].stderr
    assert "MemoryError" in results[1].stderr
