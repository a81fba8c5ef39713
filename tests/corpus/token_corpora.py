"""Tokenized corpora in which all tokens differ, and the stage `pack` on them."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from cpt.config_sections import Packing
from cpt.corpus.packing import mixed, shuffled
from cpt.corpus.stream import TokenSource
from pack import pack

TOKENIZER = {
    "dtype": "uint16",
    "bos_token_id": None,
    "eos_token_id": 0,
    "vocab_size": 60_000,
    "tokenizer_sha256": "f" * 64,
}
shares_of = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(
    lambda parts: {f"c{n}": part / sum(parts) for n, part in enumerate(parts)}
)
# Document lengths without EOS, by corpus and shard.
corpora = st.lists(
    st.lists(st.lists(st.integers(0, 40), max_size=12), min_size=1, max_size=3), min_size=1, max_size=3
)


def chosen_of(shares: dict[str, float], available: dict[str, int]) -> np.ndarray:
    """The number of each output sequence's source."""
    pattern, count = mixed(shares, available)
    return np.resize(pattern, count)


def permutation(*arguments) -> np.ndarray:
    """The whole permutation of `shuffled`."""
    return np.concatenate(list(shuffled(*arguments)))


def write(root: Path, name: str, shards: list[list[int]], first: int) -> list[list[int]]:
    """Write a corpus whose tokens are all different; returns its documents with their EOS."""
    folder = root / name / "tokens"
    folder.mkdir(parents=True)
    everything = []
    for shard, lengths in enumerate(shards):
        documents = []
        for size in lengths:
            documents.append([*range(first, first + size), 0])
            first += size
        ids = np.array([number for document in documents for number in document], "<u2")
        ids.tofile(folder / f"{shard:05d}.tokens")
        ends = np.cumsum([len(document) for document in documents]).astype(np.uint64)
        np.save(folder / f"{shard:05d}.ends.npy", ends)
        manifest = {"documents": len(documents), "tokens": len(ids), **TOKENIZER}
        (folder / f"{shard:05d}.json").write_text(json.dumps(manifest))
        everything += documents
    return everything


def lists_of(root: Path, shards: dict[str, int]) -> dict[str, list[Path]]:
    """The files of tokenized shards under `root`, by the parameters of `pack`."""
    stems = [root / corpus / "tokens" / f"{n:05d}" for corpus, count in shards.items() for n in range(count)]
    endings = {"tokens": ".tokens", "ends": ".ends.npy", "manifests": ".json"}
    return {name: [Path(f"{stem}{ending}") for stem in stems] for name, ending in endings.items()}


def source_of(root: Path, corpus: str, shards: int) -> TokenSource:
    return TokenSource(corpus, **lists_of(root, {corpus: shards}))


def run_pack(
    root: Path,
    mixture: dict,
    shards: dict,
    output: str,
    length: int,
    epochs: int = 1,
    strategy: str = "concatenate",
) -> tuple:
    """The packed sequences [n, length], the documents' starts in each, and the ledger."""
    packing = Packing(sequence_length=length, strategy=strategy, maximum_epochs=epochs, seed=3)
    folder = root / output
    pack(
        "m",
        mixture,
        shards,
        **lists_of(root, shards),
        packing=packing,
        packed=folder,
        contents=folder.with_suffix(".json"),
    )
    ledger = json.loads((folder / "ledger.json").read_text())
    offsets = np.load(folder / "boundary_offsets.npy").tolist()
    starts = np.load(folder / "boundaries.npy").tolist()
    sequences = np.fromfile(folder / "sequences.bin", "<u2").reshape(-1, length)
    return sequences, [starts[a:b] for a, b in pairwise(offsets)], ledger
