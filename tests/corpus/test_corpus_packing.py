"""Packing: accounts for every token, keeps the shares in every prefix, takes its order from the seed."""

import json

import numpy as np
import pytest
import xxhash
from token_corpora import chosen_of, lists_of, permutation, source_of

import pack as stage
from cpt.config_sections import Packing
from cpt.corpus import packing
from cpt.corpus.packing import Supply, mixed, shuffled
from cpt.corpus.strategies import STRATEGIES
from cpt.errors import UserError

TOKENIZER = {
    "dtype": "uint16",
    "bos_token_id": None,
    "eos_token_id": 0,
    "vocab_size": 500,
    "tokenizer_sha256": "f" * 64,
}


def write_shard(root, corpus, shard, documents, **changes) -> None:
    """Write a shard; `documents` are lists of ids, and each gets an EOS."""
    folder = root / corpus / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([number for document in documents for number in [*document, 0]], "<u2")
    ids.tofile(folder / f"{shard:05d}.tokens")
    ends = np.cumsum([len(document) + 1 for document in documents]).astype(np.uint64)
    np.save(folder / f"{shard:05d}.ends.npy", ends)
    manifest = {"documents": len(documents), "tokens": len(ids), **TOKENIZER, **changes}
    (folder / f"{shard:05d}.json").write_text(json.dumps(manifest))


def documents(generator, count):
    return [generator.integers(1, 500, generator.integers(0, 12)).tolist() for _ in range(count)]


def test_mixture_by_hand():
    # Deficits after each step: a: .75 -> a; b: .5 -> b (a: .5, but it comes first: ties go to a).
    assert chosen_of({"a": 0.75, "b": 0.25}, {"a": 6, "b": 2}).tolist() == [0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("shares", [{"a": 1.0}, {"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.3, "c": 0.2}])
def test_every_prefix_has_the_shares(shares):
    chosen = chosen_of(shares, dict.fromkeys(shares, 400))
    steps = np.arange(1, len(chosen) + 1)
    for number, share in enumerate(shares.values()):
        assert np.abs(np.cumsum(chosen == number) - share * steps).max() < 1
    assert np.bincount(chosen).max() == 400


def test_mixture_ends_with_the_first_exhausted_source():
    assert chosen_of({"a": 0.5, "b": 0.5}, {"a": 100, "b": 3}).tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_shuffle_is_a_function_of_its_arguments():
    order = permutation(1000, "news", 0)
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, permutation(1000, "news", 0))
    others = [permutation(1000, "news", 1), permutation(1000, "wiki", 0), permutation(1001, "news", 0)[:1000]]
    assert not any(np.array_equal(order, other) for other in others)
    # The stream of random numbers must stay the same between versions of NumPy and of this code.
    assert permutation(5, "news", 0).tolist() == [4, 1, 2, 3, 0]


def test_stream_over_shards(tmp_path):
    write_shard(tmp_path, "c", 0, [[1, 2], [3]])
    write_shard(tmp_path, "c", 1, [])
    write_shard(tmp_path, "c", 2, [[4], [5, 6]])
    source = source_of(tmp_path, "c", 3)
    assert [begins.tolist() for begins, _ in source.spans()] == [[0, 3], [5, 7]]
    for begin in range(10):
        for length in range(1, 11 - begin):
            out = np.empty(length, np.uint16)
            source.read(begin, out)
            assert out.tolist() == [1, 2, 0, 3, 0, 4, 0, 5, 6, 0][begin : begin + length]


def pack(root, mixture, shards, output, length=8):
    packing = Packing(sequence_length=length, strategy="concatenate", maximum_epochs=1, seed=0)
    stage.pack(
        "m",
        mixture,
        shards,
        **lists_of(root, shards),
        packing=packing,
        packed=output,
        contents=output.with_suffix(".json"),
    )


def test_packs_and_accounts(tmp_path):
    generator = np.random.default_rng(0)
    streams = {"a": documents(generator, 90), "b": documents(generator, 40)}
    for corpus, all_documents in streams.items():
        for shard in range(2):
            write_shard(tmp_path, corpus, shard, all_documents[shard::2])
    for output in ("x", "y"):
        pack(tmp_path, {"a": 0.75, "b": 0.25}, {"a": 2, "b": 2}, tmp_path / output)
    for name in ("sequences.bin", "boundaries.npy", "boundary_offsets.npy", "lengths.npy"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
    ledger = json.loads((tmp_path / "x" / "ledger.json").read_text())
    contents = (tmp_path / "x.json").read_text()
    assert contents == (tmp_path / "y.json").read_text()
    assert json.loads(contents) == {key: value for key, value in ledger.items() if key != "provenance"}
    sequences = np.fromfile(tmp_path / "x" / "sequences.bin", "<u2").reshape(-1, 8)
    boundaries = np.load(tmp_path / "x" / "boundaries.npy")
    offsets = np.load(tmp_path / "x" / "boundary_offsets.npy")
    assert len(sequences) == ledger["sequences"] == len(offsets) - 1
    assert ledger["tokens"] == sequences.size and ledger["padding_tokens"] == 0
    assert np.array_equal(np.load(tmp_path / "x" / "lengths.npy"), np.full(len(sequences), 8, np.uint32))
    packed = [tuple(sequence) for sequence in sequences.tolist()]
    for corpus, entry in ledger["sources"].items():
        parts = streams[corpus][0::2] + streams[corpus][1::2]
        stream = [number for document in parts for number in [*document, 0]]
        assert entry["tokens"] == len(stream)
        assert entry["tail_tokens"] == len(stream) % 8
        assert entry["sequences_used"] * 8 + entry["unused_tokens"] + entry["tail_tokens"] == len(stream)
        starts = {0} | {i + 1 for i, number in enumerate(stream) if number == 0}
        own = {
            tuple(stream[i : i + 8]): [p - i for p in range(i, i + 8) if p in starts]
            for i in range(0, len(stream) - 7, 8)
        }
        mine = [row for row, sequence in enumerate(packed) if sequence in own]
        assert len(mine) == entry["sequences_used"]
        for row in mine:
            assert boundaries[offsets[row] : offsets[row + 1]].tolist() == own[packed[row]]
    assert len(set(packed)) == len(packed)
    assert boundaries.dtype == np.uint32
    assert offsets.dtype == np.uint64


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_blocks_do_not_change_the_output(tmp_path, monkeypatch, strategy):
    generator = np.random.default_rng(1)
    for corpus in ("a", "b"):
        for shard, count in enumerate((90, 0, 7, 60)):
            write_shard(tmp_path, corpus, shard, documents(generator, count))
    strategies = [STRATEGIES[strategy](source_of(tmp_path, corpus, 4), 8) for corpus in ("a", "b")]
    shares = {"a": 0.7, "b": 0.3}
    pattern, count = mixed(shares, {"a": 2 * strategies[0].sequences, "b": 10**9})

    def packed():
        return list(packing.blocks([Supply(own, 0) for own in strategies], pattern, count))

    whole = packed()
    monkeypatch.setattr(packing, "BLOCK_BYTES", 80)
    monkeypatch.setattr(packing, "SHUFFLED", 7)
    monkeypatch.setattr(packing, "DRAWN", 10)
    parts = packed()
    assert len(whole) == 1
    assert len(parts) > 10
    for column in range(len(whole[0])):
        assert np.array_equal(whole[0][column], np.concatenate([part[column] for part in parts]))


@pytest.mark.parametrize("count", [1, 9, 10, 11, 1000])
def test_parts_do_not_change_the_shuffle(monkeypatch, count):
    numbers = np.random.Philox(key=xxhash.xxh3_128_intdigest(f"3/news/{count}".encode())).random_raw(count)
    monkeypatch.setattr(packing, "DRAWN", 64)
    for size in (1000, 100, 10):
        monkeypatch.setattr(packing, "SHUFFLED", size)
        parts = list(shuffled(count, "news", 3))
        assert len(parts) == -(-count // size)
        assert np.concatenate(parts).tolist() == np.argsort(numbers, kind="stable").tolist()


def test_empty_corpus(tmp_path):
    write_shard(tmp_path, "news", 0, [])
    with pytest.raises(UserError, match=r"corpus news: there are no tokens to pack; .*drops\.csv"):
        pack(tmp_path, {"news": 1.0}, {"news": 1}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_too_little_text(tmp_path):
    write_shard(tmp_path, "news", 0, [[1, 2]])
    message = r"corpus news: its 3 tokens don't fill one sequence; lower packing.sequence_length \(8\)"
    with pytest.raises(UserError, match=message):
        pack(tmp_path, {"news": 1.0}, {"news": 1}, tmp_path / "x")


def test_mixed_tokenizers_are_refused(tmp_path):
    write_shard(tmp_path, "a", 0, [list(range(1, 20))])
    write_shard(tmp_path, "b", 0, [list(range(1, 20))], tokenizer_sha256="0" * 64)
    with pytest.raises(UserError, match=r"b/tokens: made with another tokenizer .*tokenizer_sha256"):
        pack(tmp_path, {"a": 0.5, "b": 0.5}, {"a": 1, "b": 1}, tmp_path / "x")


def test_a_truncated_shard_is_refused(tmp_path):
    write_shard(tmp_path, "a", 0, [list(range(1, 20))])
    path = tmp_path / "a" / "tokens" / "00000.tokens"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"00000.tokens: doesn't fit its manifest; delete it and run again"):
        pack(tmp_path, {"a": 1.0}, {"a": 1}, tmp_path / "x")


def test_a_source_without_share_is_not_read(tmp_path):
    write_shard(tmp_path, "a", 0, [list(range(1, 20))])
    pack(tmp_path, {"a": 1.0, "absent": 0.0}, {"a": 1, "absent": 1}, tmp_path / "x")
    assert (tmp_path / "x" / "ledger.json").exists()
