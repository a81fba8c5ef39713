"""Packs tokens into sequences of one length, then shuffles and mixes these (paper 3.2.4)."""

import hashlib
import itertools
import math
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from cpt.arrays import ArrayWriter
from cpt.config_sections import Packing
from cpt.corpus.strategies import STRATEGIES, Conversations, Strategy
from cpt.corpus.stream import TokenSource, require_same_tokenizer
from cpt.errors import UserError
from cpt.progress import Progress

BLOCK_BYTES = 2**25  # of sequences, written at once
SHUFFLED = 2**23  # sequences sorted at a time, about: 28 bytes of memory for each
DRAWN = 2**20  # random numbers drawn at a time


def shuffled(count: int, corpus: str, seed: int, epoch: int = 0) -> Iterator[np.ndarray]:
    """Yields a permutation (int64) of `count` sequences in parts; it depends on the arguments alone.

    Sorts the raw 64-bit numbers of a Philox generator (Salmon et al. 2011). NumPy guarantees that stream in
    later versions (NEP 19), unlike that of Generator.permutation. Each part draws all numbers again and
    sorts those in its range, which bounds memory. The number of parts doesn't change the permutation.
    """
    key = xxhash.xxh3_128_intdigest(f"{seed}/{corpus}/{count}{f'/{epoch}' if epoch else ''}".encode())
    parts = -(-count // SHUFFLED)
    edges = [2**64 * part // parts for part in range(parts + 1)]
    for low, high in itertools.pairwise(edges):
        generator = np.random.Philox(key=key)
        drawn, places = [], []
        for first in range(0, count, DRAWN):
            numbers = generator.random_raw(min(DRAWN, count - first))
            mine = np.flatnonzero((numbers >= np.uint64(low)) & (numbers <= np.uint64(high - 1)))
            drawn.append(numbers[mine])
            places.append(first + mine)
        yield np.concatenate(places)[np.argsort(np.concatenate(drawn), kind="stable")]


class Supply:
    """Hands out the sequences of a source, shuffled, each once per epoch; counts where its tokens go.

    A `share` below 1 uses only that share of the sequences, the same in each epoch: the first ones of the
    whole source's order, so that a smaller share is a part of a larger one.
    """

    def __init__(self, strategy: Strategy, seed: int, share: float = 1.0):
        self.strategy = strategy
        name, epochs = strategy.source.corpus, itertools.count()
        self.sequences = math.ceil(Fraction(str(share)) * strategy.sequences)
        self.parts = (part for epoch in epochs for part in shuffled(self.sequences, name, seed, epoch))
        self.part, self.never = np.empty(0, np.int64), 0  # never: tokens outside the share
        if self.sequences < strategy.sequences:
            parts = shuffled(strategy.sequences, name, seed)
            chosen = np.fromiter(itertools.chain.from_iterable(parts), np.int64, self.sequences)
            self.parts = (chosen[part] for part in self.parts)
            self.never = strategy.source.tokens - strategy.tail_tokens - strategy.tokens_in(chosen)
        self.used = self.packed = self.repeated = 0

    def take(self, count: int) -> np.ndarray:
        """The numbers (int64) of the next `count` sequences."""
        parts = []
        while count > len(self.part):
            parts.append(self.part)
            count -= len(self.part)
            self.part = next(self.parts)
        parts.append(self.part[:count])
        self.part = self.part[count:]
        return np.concatenate(parts)

    def add(self, lengths: np.ndarray) -> None:
        """Count sequences as written; `lengths` (uint32) are their tokens before the padding."""
        fresh = max(0, self.sequences - self.used)
        self.packed += int(lengths[:fresh].sum(dtype=np.int64))
        self.repeated += int(lengths[fresh:].sum(dtype=np.int64))
        self.used += len(lengths)

    def entry(self) -> dict[str, Any]:
        """The source's entry in the ledger. Call it last: it takes the remaining sequences.

        packed_tokens + unused_tokens + tail_tokens = tokens, and sequences_used * length = packed_tokens +
        repeated_tokens + padding_tokens. `truncated_documents` counts the whole source.
        """
        strategy, source = self.strategy, self.strategy.source
        unused = self.never
        for begin in range(self.used, self.sequences, SHUFFLED):
            unused += strategy.tokens_in(self.take(min(SHUFFLED, self.sequences - begin)))
        assert self.packed + unused + strategy.tail_tokens == source.tokens
        return {
            "documents": source.documents,
            "tokens": source.tokens,
            "sequences_available": self.sequences,
            "sequences_used": self.used,
            "sequences_repeated": max(0, self.used - self.sequences),
            "epochs": round(self.used / self.sequences, 6),
            "packed_tokens": self.packed,
            "repeated_tokens": self.repeated,
            "padding_tokens": self.used * strategy.length - self.packed - self.repeated,
            "unused_tokens": unused,
            "tail_tokens": strategy.tail_tokens,
            "truncated_documents": strategy.truncated_documents,
            "other_strategies": {
                name: other.summary(source, strategy.length)
                for name, other in STRATEGIES.items()
                if not isinstance(strategy, other | Conversations)
            },
        }


def mixed(shares: dict[str, float], available: dict[str, int]) -> tuple[np.ndarray, int]:
    """The source of each output sequence, as a repeating pattern, and the number of sequences.

    The pattern (uint8) holds the sources' positions in `shares`. Sequence k comes from the source with the
    largest deficit share * (k + 1) - taken (ties: the first source). The mixture ends where that source has
    no sequence left. Whole numbers make it exact.
    """
    fractions = [Fraction(str(share)) for share in shares.values()]
    unit = np.lcm.reduce([fraction.denominator for fraction in fractions], dtype=object)
    weights = [int(fraction * unit) for fraction in fractions]
    left = [available[corpus] for corpus in shares]
    deficits = [0] * len(weights)
    chosen = bytearray()
    # After `unit` sequences deficits are whole multiples of the unit, and smaller than it: all are 0 again.
    while len(chosen) < unit or sum(weights) != unit:
        deficits = [deficit + weight for deficit, weight in zip(deficits, weights, strict=True)]
        source = deficits.index(max(deficits))
        if not left[source]:
            return np.frombuffer(chosen, np.uint8), len(chosen)
        chosen.append(source)
        left[source] -= 1
        deficits[source] -= unit
    pattern = np.frombuffer(chosen, np.uint8)
    ends = []
    for number, (corpus, weight) in enumerate(zip(shares, weights, strict=True)):
        rounds, rest = divmod(available[corpus], weight)
        ends.append(rounds * unit + int(np.flatnonzero(pattern == number)[rest]))
    return pattern, min(ends)


Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def blocks(supplies: list[Supply], pattern: np.ndarray, count: int) -> Iterator[Block]:
    """The mixture's sequences in blocks of about `BLOCK_BYTES`; `pattern` and `count` are those of `mixed`.

    A source that runs out of sequences starts again, in another order. Yields the token ids [sequences,
    length], each sequence's source (uint8), the positions at which documents start in it (uint32, flat), the
    number of these (int64), its tokens before the padding (uint32), and which tokens are trained on (uint8
    [sequences, length]): the assistant's in conversations, all in documents; [sequences, 0] if no source has
    conversations.
    """
    length, tokenizer = supplies[0].strategy.length, supplies[0].strategy.source.tokenizer
    dtype = np.dtype(tokenizer["dtype"]).newbyteorder("<")
    rows = max(1, BLOCK_BYTES // (length * dtype.itemsize))
    masked = any(isinstance(supply.strategy, Conversations) for supply in supplies)
    for first in range(0, count, rows):
        sources = pattern[np.arange(first, min(first + rows, count)) % len(pattern)]
        sequences = np.empty((len(sources), length), dtype)
        lengths, counts = np.empty(len(sources), np.uint32), np.empty(len(sources), np.int64)
        starts: list[np.ndarray] = [np.empty(0, np.uint32)] * len(sources)
        mask = np.ones((len(sources), length if masked else 0), np.uint8)
        for number, supply in enumerate(supplies):
            mine = np.flatnonzero(sources == number)
            numbers = supply.take(len(mine))
            if isinstance(supply.strategy, Conversations):
                own = np.zeros((len(mine), length), np.uint8)
                supply.strategy.read_masks(numbers, own)
                mask[mine] = own
            if len(mine) == len(sources):
                inside, counts, lengths = supply.strategy.read(numbers, sequences)
                starts = [inside]
            elif len(mine):
                own = np.empty((len(mine), length), dtype)
                inside, counts[mine], lengths[mine] = supply.strategy.read(numbers, own)
                sequences[mine] = own
                ends = np.cumsum(counts[mine]).tolist()
                for row, begin, end in zip(mine.tolist(), [0, *ends], ends, strict=False):
                    starts[row] = inside[begin:end]
        for row in np.flatnonzero(lengths < length).tolist():
            sequences[row, lengths[row] :] = tokenizer["eos_token_id"]
        yield sequences, sources, np.concatenate(starts), counts, lengths, mask


class Mixture:
    """Mixes sources by their shares: `write` writes the sequences, `ledger` counts where every token went.

    Uses the share `subsample` of each source's sequences. Raises UserError if two sources were made with
    different tokenizers, or if one doesn't fill a sequence.
    """

    def __init__(
        self,
        sources: list[TokenSource],
        shares: dict[str, float],
        packing: Packing,
        subsample: float = 1.0,
    ):
        self.length, self.seed, self.tokenizer = packing.sequence_length, packing.seed, sources[0].tokenizer
        for source in sources:
            require_same_tokenizer(self.tokenizer, source.tokenizer, source.folder)
        strategies = [Conversations if source.masks else STRATEGIES[packing.strategy] for source in sources]
        self.supplies = [
            Supply(make(source, self.length), self.seed, subsample)
            for make, source in zip(strategies, sources, strict=True)
        ]
        available = {}
        for source, supply in zip(sources, self.supplies, strict=True):
            if not supply.strategy.sequences and source.masks:
                raise UserError(
                    f"corpus {source.corpus}: not one of its {source.documents} conversations has an answer "
                    f"that ends within a sequence; raise packing.sequence_length ({self.length})"
                )
            if not supply.strategy.sequences:
                raise UserError(
                    f"corpus {source.corpus}: its {source.tokens} tokens don't fill one sequence; "
                    f"lower packing.sequence_length ({self.length}) or give it more text"
                )
            available[source.corpus] = packing.maximum_epochs * supply.sequences
        self.pattern, self.sequences = mixed({corpus: shares[corpus] for corpus in available}, available)
        self.digest, self.mask_digest = hashlib.sha256(), hashlib.sha256()
        self.answer_tokens = [0] * len(sources)
        self.masked = any(source.masks for source in sources)

    def write(self, folder: Path, name: str) -> None:
        """Write sequences.bin, boundaries.npy, boundary_offsets.npy and lengths.npy.

        With conversations also loss_mask.bin: one bit per token, each row padded to bytes (np.packbits).
        """
        with ExitStack() as files:
            file = files.enter_context(open(folder / "sequences.bin", "wb"))
            masks = files.enter_context(open(folder / "loss_mask.bin", "wb")) if self.masked else None
            kinds = {"boundaries": np.uint32, "boundary_offsets": np.uint64, "lengths": np.uint32}
            boundaries, offsets, sizes = arrays = [
                ArrayWriter(files.enter_context(open(folder / f"{array}.npy", "wb")), dtype)
                for array, dtype in kinds.items()
            ]
            progress = files.enter_context(Progress(name, self.sequences, "sequences"))
            offsets.add(np.zeros(1, np.uint64))
            for block, sources, starts, counts, lengths, mask in blocks(
                self.supplies, self.pattern, self.sequences
            ):
                file.write(block)
                self.digest.update(block)
                if masks is not None:
                    bits = np.packbits(mask, axis=1)
                    masks.write(bits)
                    self.mask_digest.update(bits)
                offsets.add(np.uint64(boundaries.count) + np.cumsum(counts).astype(np.uint64))
                boundaries.add(starts)
                sizes.add(lengths)
                for number, supply in enumerate(self.supplies):
                    supply.add(lengths[sources == number])
                    if isinstance(supply.strategy, Conversations):
                        self.answer_tokens[number] += int(mask[sources == number].sum(dtype=np.int64))
                progress.advance(len(block))
            for array in arrays:
                array.finish()

    def ledger(self) -> dict[str, Any]:
        """The counts of where every token went; call it after `write`."""
        tokens = sum(supply.packed + supply.repeated for supply in self.supplies)
        entries = {supply.strategy.source.corpus: supply.entry() for supply in self.supplies}
        for entry, supply, answers in zip(entries.values(), self.supplies, self.answer_tokens, strict=True):
            if isinstance(supply.strategy, Conversations):
                entry["answer_tokens"] = answers
        masks = {"loss_mask_sha256": self.mask_digest.hexdigest()} if self.masked else {}
        return {
            "tokens": tokens,
            "padding_tokens": self.sequences * self.length - tokens,
            **self.tokenizer,
            "seed": self.seed,
            "sources": entries,
            "sequences_sha256": self.digest.hexdigest(),
            **masks,
        }


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to `count`, if allowed: a mapped file counts as open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
