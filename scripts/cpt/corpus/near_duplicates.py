"""Finds near-duplicates by MinHash and locality-sensitive hashing, as in FineWeb (Penedo et al. 2024).

A document is the set of its n-grams of words, lower-cased and without punctuation (the words of
`cpt.corpus.contamination`). `bands * rows` random permutations of all n-grams are drawn; two documents of
Jaccard similarity s have the same smallest n-gram under one of them with probability s (Broder 1997).
Documents match if they agree in all rows of at least one band: with probability 1 - (1 - s^rows)^bands.
Clusters are the connected components of matches.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xxhash
from datasketch import MinHash
from numba import njit

from cpt.config_sections import NearDuplicates
from cpt.corpus.kernels import START, STEP
from cpt.corpus.words import hash_words

BLOCK = 1_024  # n-grams permuted at a time: 8 bytes of memory per n-gram and permutation
SAMPLED = 8  # one n-gram in this many is used for containment
FEWEST = 8  # sampled n-grams; a document with fewer is never contained in another
COMMON = 20  # documents; an n-gram in more of them is ignored
SORTED = 2**24  # band hashes sorted at a time, about


def hash_ngrams(text: str, n: int) -> np.ndarray:
    """Hashes of a text's n-grams of words, in order: uint64 [words - n + 1], empty for fewer than n words."""
    words, _ = hash_words(text.lower(), punctuation=False)
    count = max(0, len(words) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for place in range(n):
        hashes *= START
        hashes += words[place : place + count]
    return hashes


def band_hashes(texts: Iterable[str], near: NearDuplicates) -> Iterator[np.ndarray]:
    """Yields for each text the hashes of its MinHash signature's bands: uint64 [bands].

    A text of fewer than `near.ngram` words has no n-grams and gets zeros, which match nothing. The seed sets
    datasketch's `affine64` permutations. Two bands that differ share a hash with probability 2**-64.
    """
    signature = MinHash(near.bands * near.rows, seed=near.seed, hashfunc=int, scheme="affine64")
    for text in texts:
        hashes = hash_ngrams(text, near.ngram)
        if not len(hashes):
            yield np.zeros(near.bands, np.uint64)
            continue
        signature.clear()
        for start in range(0, len(hashes), BLOCK):
            signature.update_batch(hashes[start : start + BLOCK].tolist())
        rows_of_bands = signature.hashvalues.astype("<u8").reshape(near.bands, near.rows)
        yield np.array([xxhash.xxh3_64_intdigest(band.tobytes()) for band in rows_of_bands], np.uint64)


def first_of_clusters(shards: Sequence[np.ndarray], present: np.ndarray) -> np.ndarray:
    """The position of the first document in each document's cluster: int64 [documents].

    `shards` hold the band hashes, uint64 [bands, documents of the shard] each; positions run over all
    shards. Documents where `present` (bool [documents]) is false match nothing. Takes 8 bytes of memory per
    document, and about 57 for each of `SORTED` documents; the hashes may be memory-mapped.
    """
    first = np.arange(len(present))
    ends = np.cumsum([shard.shape[1] for shard in shards])
    # Each band is sorted one range of hashes at a time, which bounds memory.
    ranges = -(-len(present) // SORTED)
    for band in range(shards[0].shape[0]):
        for number in range(ranges):
            chosen: list[np.ndarray] = []
            positions: list[np.ndarray] = []
            for shard, end in zip(shards, ends, strict=True):
                start = end - shard.shape[1]
                hashes = shard[band]
                inside = (hashes >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32) == number
                inside &= present[start:end] & (hashes != 0)
                chosen.append(hashes[inside])
                positions.append(np.flatnonzero(inside) + start)
            values, places = np.concatenate(chosen), np.concatenate(positions)
            order = np.argsort(values, kind="stable")
            _join_equal(first, values[order], places[order])
    return _roots(first)


def contained_in_another(texts: Iterable[str | None], near: NearDuplicates) -> np.ndarray:
    """Which documents are contained in a longer one that isn't: bool [documents]; a text of None is ignored.

    A document is contained in another if that one has at least `near.containment` of its n-grams. Counts
    are of a sample of n-grams, chosen by their hashes alone. Of two with equally many, the first stays.
    Takes about 8 bytes of memory per word, and 16 per n-gram that two documents share.
    """
    samples = [_sample(text, near.ngram) for text in texts]
    owners = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    hashes = np.concatenate([np.empty(0, np.uint64), *samples])
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] ^ np.uint64(1)))
    sizes = np.diff(starts, append=len(hashes))
    common = np.repeat(sizes > COMMON, sizes)
    counts = np.bincount(owners[~common], minlength=len(samples))
    pairs = [np.empty((0, 2), np.int64)]
    for size in range(2, COMMON + 1):
        groups = owners[starts[sizes == size][:, None] + np.arange(size)]
        one, other = np.nonzero(~np.eye(size, dtype=bool))
        pairs.append(np.stack([groups[:, one].ravel(), groups[:, other].ravel()], axis=1))
    unique_pairs, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    inner, outer = unique_pairs.T
    longer = (counts[outer] > counts[inner]) | ((counts[outer] == counts[inner]) & (outer < inner))
    enough = (counts[inner] >= FEWEST) & (shared >= near.containment * counts[inner])
    inner, outer = inner[longer & enough], outer[longer & enough]
    contained = np.zeros(len(samples), bool)
    for pair in np.lexsort((inner, -counts[inner])):  # the longest first: whether it stays is decided by then
        contained[inner[pair]] |= not contained[outer[pair]]
    return contained


def _sample(text: str | None, n: int) -> np.ndarray:
    """The distinct hashes of a text's n-grams, of which one in `SAMPLED` is chosen: uint64."""
    hashes = np.unique(hash_ngrams(text, n)) if text else np.empty(0, np.uint64)
    mixed = (hashes ^ hashes >> np.uint64(32)) * STEP
    return hashes[mixed >> np.uint64(32) & np.uint64(SAMPLED - 1) == 0]


@njit(cache=True)
def _root(parents, node):
    while parents[node] != node:
        parents[node] = parents[parents[node]]  # halves the path for the next search
        node = parents[node]
    return node


@njit(cache=True)
def _join_equal(parents, values, places):
    """Join the clusters of neighbours with equal values; a parent always precedes its children."""
    for number in range(1, len(values)):
        if values[number] == values[number - 1]:
            one, other = _root(parents, places[number - 1]), _root(parents, places[number])
            parents[max(one, other)] = min(one, other)


@njit(cache=True)
def _roots(parents):
    """Every node's root, in `parents`; a parent precedes its children, so its root is known first."""
    for node in range(len(parents)):
        parents[node] = parents[parents[node]]
    return parents
