"""Packed conversations: whole, or cut after an answer, in mixtures with text."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_corpora import TOKENIZER, lists_of, run_pack, write

from cpt.config_sections import Packing
from cpt.errors import UserError
from cpt.train.batches import PackedSequences
from pack import pack

conversations = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=8), min_size=1, max_size=15)


def write_masked(root: Path, name: str, shards: list[list[list[int]]], first: int) -> list[tuple[list, list]]:
    """Conversations with turns of these lengths, every second one the assistant's: tokens and masks."""
    written = []
    folder = root / name / "tokens"
    folder.mkdir(parents=True)
    for number, shard in enumerate(shards):
        masks = [[turn % 2 for turn, size in enumerate(sizes) for _ in range(size)] for sizes in shard]
        mine = []
        for mask in masks:
            mine.append((list(range(first, first + len(mask))), mask))
            first += len(mask)
        ids = np.array([token for tokens, _ in mine for token in tokens], "<u2")
        ids.tofile(folder / f"{number:05d}.tokens")
        np.array([bit for mask in masks for bit in mask], np.uint8).tofile(folder / f"{number:05d}.mask")
        ends = np.cumsum([len(mask) for mask in masks]).astype(np.uint64)
        np.save(folder / f"{number:05d}.ends.npy", ends)
        manifest = {"documents": len(mine), "tokens": len(ids), **TOKENIZER}
        (folder / f"{number:05d}.json").write_text(json.dumps(manifest))
        written += mine
    return written


def cut(tokens: list, mask: list, length: int) -> int:
    """How many tokens of a conversation are kept: all, or up to the last whole answer that fits."""
    if len(tokens) <= length:
        return len(tokens)
    ends = [n for n in range(1, len(mask)) if mask[n - 1] and not mask[n]]
    return max([end for end in ends if end <= length], default=0)


@settings(max_examples=60, deadline=None)
@given(conversations, st.integers(6, 30), st.sampled_from(["concatenate", "best_fit"]), st.booleans())
def test_conversations_are_packed_whole_or_cut_after_an_answer(turns, length, strategy, mixed):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        written = write_masked(root, "chat", [turns[::2], turns[1::2]], 20_000)
        kept = [
            (tokens[:size], mask[:size]) for tokens, mask in written if (size := cut(tokens, mask, length))
        ]
        if not kept:
            return
        shares, shards = (
            ({"c": 0.5, "chat": 0.5}, {"c": 1, "chat": 2}) if mixed else ({"chat": 1.0}, {"chat": 2})
        )
        if mixed:
            write(root, "c", [[length] * 40], 1)
        masks = [root / "chat" / "tokens" / f"{number:05d}.mask" for number in range(2)]
        packing = Packing(sequence_length=length, strategy=strategy, maximum_epochs=1, seed=3)
        pack(
            "m",
            shares,
            shards,
            **lists_of(root, shards),
            packing=packing,
            packed=root / "o",
            contents=root / "o.json",
            masks=masks,
        )
        packed = PackedSequences(root / "o", document_masking=True)
        ledger = packed.ledger
        bits = np.unpackbits(packed.loss_mask, axis=1, count=length)
        offsets, starts = np.load(root / "o" / "boundary_offsets.npy"), np.load(root / "o" / "boundaries.npy")
        pieces = []
        for row, (begin, end) in enumerate(pairwise(offsets.tolist())):
            if packed.rows[row, 0] < 20_000:
                assert bits[row, : packed.lengths[row]].all()  # text: all tokens count
                continue
            edges = [*starts[begin:end].tolist(), int(packed.lengths[row])]
            for one, other in pairwise(edges):
                pieces.append((packed.rows[row, one:other].tolist(), bits[row, one:other].tolist()))
        entry = ledger["sources"]["chat"]
        if not mixed:
            assert sorted(pieces) == sorted(kept)
            assert entry["packed_tokens"] == sum(len(tokens) for tokens, _ in kept)
        assert all(conversation in kept for conversation in pieces)
        assert len({tokens[0] for tokens, _ in pieces}) == len(pieces)
        assert entry["tail_tokens"] == sum(map(sum, turns)) - sum(len(tokens) for tokens, _ in kept)
        assert entry["truncated_documents"] == sum(sum(sizes) > length for sizes in turns)
        assert entry["answer_tokens"] == sum(sum(mask) for _, mask in pieces)
        targets = [sum(mask) for _, mask in pieces]
        if not mixed:
            assert packed.targets(range(len(packed.rows))) == sum(targets)


def test_not_one_answer_fits(tmp_path):
    write_masked(tmp_path, "chat", [[[9, 9]]], 1)
    packing = Packing(sequence_length=8, strategy="best_fit", maximum_epochs=1, seed=3)
    lists = lists_of(tmp_path, {"chat": 1})
    masks = [tmp_path / "chat" / "tokens" / "00000.mask"]
    with pytest.raises(
        UserError, match=r"corpus chat: not one of its 1 conversations has an answer that ends"
    ):
        pack(
            "m",
            {"chat": 1.0},
            {"chat": 1},
            **lists,
            packing=packing,
            packed=tmp_path / "o",
            contents=tmp_path / "o.json",
            masks=masks,
        )


@pytest.mark.parametrize(
    ("strategy", "digest"), [("concatenate", "5cd3b14958fd7e6e"), ("best_fit", "30f66d5cb2ed09b4")]
)
def test_mixtures_of_text_are_packed_as_before_there_were_conversations(strategy, digest, tmp_path):
    write(tmp_path, "a", [[30, 7, 0, 12] * 9, [50, 3] * 5], 1)
    write(tmp_path, "b", [[9, 90] * 20], 9000)
    ledger = run_pack(tmp_path, {"a": 0.7, "b": 0.3}, {"a": 2, "b": 1}, "o", 16, 2, strategy)[2]
    assert ledger["sequences_sha256"].startswith(digest) and "loss_mask_sha256" not in ledger
    assert not (tmp_path / "o" / "loss_mask.bin").exists()
