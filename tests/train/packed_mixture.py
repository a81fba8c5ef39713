"""Packed mixtures as scripts/pack.py writes them, of the caller's documents."""

import json
from pathlib import Path

import numpy as np

from cpt.files import sha256_of

LENGTH = 64


def write_packed(folder: Path, documents: list[list[list[int]]]) -> Path:
    """Write a packed mixture of each sequence's documents; 0 fills the rest of a sequence."""
    rows = np.zeros((len(documents), LENGTH), np.uint16)
    sizes = [[len(document) for document in sequence] for sequence in documents]
    for row, sequence in zip(rows, documents, strict=True):
        tokens = [token for document in sequence for token in document]
        row[: len(tokens)] = tokens
    rows.tofile(folder / "sequences.bin")
    starts = [np.cumsum([0, *lengths[:-1]]) for lengths in sizes]
    np.save(folder / "boundaries.npy", np.concatenate(starts).astype(np.uint32))
    np.save(folder / "boundary_offsets.npy", np.cumsum([0, *map(len, starts)]).astype(np.uint64))
    np.save(folder / "lengths.npy", np.array([sum(lengths) for lengths in sizes], np.uint32))
    ledger = {
        "mixture": "domain",
        "dtype": "uint16",
        "sequences": len(rows),
        "sequence_length": LENGTH,
        "tokens": rows.size,
        "sequences_sha256": sha256_of(folder / "sequences.bin"),
    }
    (folder / "ledger.json").write_text(json.dumps(ledger))
    return folder
