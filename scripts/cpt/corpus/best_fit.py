"""Best-fit packing: no document is cut unless it is longer than a sequence."""

import numpy as np
from numba import njit


def best_fit(starts: np.ndarray, total: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pack documents into sequences of `length` tokens.

    Best-fit-decreasing (Ding et al. 2024, "Fewer truncations improve language modeling", algorithm 1). A
    document longer than a sequence is cut into pieces of `length` and a rest. Rests and the other documents
    are placed in order of decreasing length (ties: order of the stream). Each goes into the sequence with
    the least room that still holds it (ties: the sequence filled last).

    Args:
        starts: uint64 [documents], their positions in the stream; ascending.
        total: tokens of the stream, where the last document ends.
        length: of a sequence, in tokens.

    Returns:
        The position of each piece in the stream (int64 [pieces]), its length (uint32 [pieces]) and the
        offsets (int64 [sequences + 1]): the pieces of sequence i are offsets[i] to offsets[i + 1], in the
        order of the stream.

    Takes O(documents x log(length)) time. Memory, without `starts`: 12 bytes per document of work space, and
    12 per piece and 8 per sequence for the result.
    """
    dtype = np.int32 if len(starts) < 2**31 else np.int64
    return _best_fit(starts.view(np.int64), total, length, np.empty(len(starts), dtype))


@njit(cache=True)
def _best_fit(starts, total, length, order):
    """See `best_fit`; `order` [documents] is work space, and its dtype is that of document numbers."""
    full, rests = _order_by_rest(starts, total, length, order)
    chosen, counts, sequences = _choose_sequences(starts, total, length, order, rests)
    return _lay_out(starts, total, length, full, rests, chosen, counts, sequences)


@njit(cache=True)
def _order_by_rest(starts, total, length, order):
    """Fill `order` with the documents that leave a rest, by decreasing rest (counting sort).

    Returns the number of full pieces and that of rests.
    """
    documents = len(starts)
    places = np.zeros(length + 1, np.int64)
    full = 0
    for document in range(documents):
        size = (starts[document + 1] if document + 1 < documents else total) - starts[document]
        places[size % length] += 1
        full += size // length
    rests = documents - places[0]
    before = 0
    for rest in range(length, 0, -1):
        before, places[rest] = before + places[rest], before
    for document in range(documents):
        size = (starts[document + 1] if document + 1 < documents else total) - starts[document]
        rest = size % length
        if rest:
            order[places[rest]] = document
            places[rest] += 1
    return full, rests


@njit(cache=True)
def _choose_sequences(starts, total, length, order, rests):
    """The sequence of each document's rest (-1: no rest), the rests per sequence, the number of sequences.

    A leaf of the tree counts the sequences with that much room, a node those of the leaves below it.
    Sequences with the same room form a chain: `chains[room]` is the newest, `chained[sequence]` the next.
    """
    documents = len(starts)
    leaves = 1
    while leaves < length + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)
    chains = np.full(length + 1, -1, np.int64)
    chained = np.empty_like(order)
    chosen = np.full_like(order, -1)
    counts = np.zeros(rests + 1, np.uint32)  # pieces
    sequences = 0
    for place in range(rests):
        document = order[place]
        size = (starts[document + 1] if document + 1 < documents else total) - starts[document]
        rest = size % length
        node = leaves + rest
        if tree[node] == 0:
            while node > 1 and (node % 2 == 1 or tree[node + 1] == 0):
                node //= 2
            if node > 1:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] else 2 * node + 1
        if node > 1:
            room = node - leaves
            sequence = chains[room]
            chains[room] = chained[sequence]
            while node:
                tree[node] -= 1
                node //= 2
        else:
            room, sequence = length, sequences
            sequences += 1
        chosen[document] = sequence
        counts[sequence] += 1
        room -= rest
        chained[sequence] = chains[room]
        chains[room] = sequence
        node = leaves + room
        while node:
            tree[node] += 1
            node //= 2
    return chosen, counts, sequences


@njit(cache=True)
def _lay_out(starts, total, length, full, rests, chosen, counts, sequences):
    """See `best_fit`. Each full piece is a sequence; these come first."""
    documents = len(starts)
    offsets = np.empty(full + sequences + 1, np.int64)
    for sequence in range(full + 1):
        offsets[sequence] = sequence
    for sequence in range(sequences):
        offsets[full + sequence + 1] = offsets[full + sequence] + counts[sequence]
        counts[sequence] = 0
    begins = np.empty(full + rests, np.int64)
    sizes = np.empty(full + rests, np.uint32)
    full = 0
    first = len(offsets) - 1 - sequences
    for document in range(documents):
        begin = starts[document]
        end = starts[document + 1] if document + 1 < documents else total
        while end - begin >= length:
            begins[full], sizes[full] = begin, length
            begin += length
            full += 1
        if begin < end:
            sequence = chosen[document]
            piece = offsets[first + sequence] + counts[sequence]
            counts[sequence] += 1
            begins[piece], sizes[piece] = begin, end - begin
    return begins, sizes, offsets
