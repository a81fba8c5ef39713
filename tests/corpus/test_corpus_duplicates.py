"""Exact deduplication: the first wins, whatever the partitions and the shards."""

import random

import numpy as np
import pytest

from cpt.corpus.duplicates import normalized, repeated_positions, write_partitions


def repeated(texts, folder, how="none", partitions=4) -> set[int]:
    folder.mkdir()
    assert write_partitions(texts, how, partitions, folder) == len(texts)
    return {int(position) for part in repeated_positions(folder, partitions) for position in part}


def test_first_of_equals_wins(tmp_path):
    assert repeated(["a", "b", "a", "c", "b", "a"], tmp_path / "x") == {2, 4, 5}


@pytest.mark.parametrize("partitions", [1, 3, 64, 1000])
def test_partitions_do_not_matter(tmp_path, partitions, monkeypatch):
    generator = random.Random(0)
    texts = [str(generator.randrange(700)) for _ in range(2000)]
    expected = {i for i, text in enumerate(texts) if text in texts[:i]}
    monkeypatch.setattr("cpt.corpus.duplicates.BUFFERED", 300)
    assert repeated(texts, tmp_path / "x", partitions=partitions) == expected


def test_normalization(tmp_path):
    texts = ["a b", " a\r\n\tb ", "ab"]
    assert repeated(texts, tmp_path / "x", "whitespace") == {1}
    assert repeated(texts, tmp_path / "y", "none") == set()
    assert normalized(" a\n\n b", "whitespace") == "a b"


def lay_out(save_table, root, shards: dict[str, list[list[str]]]) -> dict[str, int]:
    for corpus, parts in shards.items():
        for number, texts in enumerate(parts):
            rows = {"row": list(range(len(texts))), "text": np.array(texts, dtype=str).tolist()}
            save_table(root / corpus / "filtered" / f"{number:05d}.parquet", rows)
    return {corpus: len(parts) for corpus, parts in shards.items()}


def survivors(script, save_table, root, shards, partitions) -> list[str]:
    corpora = lay_out(save_table, root, shards)
    settings = {"hash": "xxh3_128", "normalize": "whitespace", "partitions": partitions}
    table = root / "duplicates.csv"
    done = script("deduplicate", corpora=corpora, root=root, settings=settings, table=table)
    assert done.returncode == 0, done.stderr
    kept = []
    for corpus, parts in shards.items():
        for number, texts in enumerate(parts):
            keep = np.load(root / corpus / "deduplicated" / f"{number:05d}.keep.npy")
            assert keep.dtype == bool
            kept += [text for text, stays in zip(texts, keep, strict=True) if stays]
    assert not list(root.rglob(".*"))
    return kept


def test_script_over_corpora_and_shards(script, save_table, tmp_path):
    first, second = ["a", "b", "a"], ["b", "c d"]
    other = ["c  d", "e", "a"]
    shards = {"one": [first, second], "two": [other]}
    assert survivors(script, save_table, tmp_path / "r", shards, 8) == ["a", "b", "c d", "e"]
    table = (tmp_path / "r" / "duplicates.csv").read_text()
    assert table == "corpus,shard,documents,duplicates\none,00000,3,1\none,00001,2,1\ntwo,00000,3,2\n"
    again = {"one": [first + second, []], "two": [other[:1], other[1:]]}
    assert survivors(script, save_table, tmp_path / "s", again, 1) == ["a", "b", "c d", "e"]
