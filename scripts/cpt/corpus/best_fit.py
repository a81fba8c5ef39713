"""What best-fit packing would do to a corpus: which documents it cuts, and how much padding it needs."""

import numpy as np


def best_fit(lengths: np.ndarray, length: int) -> dict[str, int]:
    """Pack documents of these lengths (int64 [documents], tokens) into sequences of `length` tokens.

    Best-fit packing (Ding et al. 2024, "Fewer truncations improve language modeling", algorithm 1): only
    documents longer than a sequence are cut, into pieces of `length` and a rest; then the pieces go in
    order of decreasing length into the sequence with the least room that still holds them. Pieces of the
    same length are alike, and so are sequences with the same room, so that counting them suffices:
    memory is bounded by `length`, whatever the number of documents.

    Returns sequences, padding_tokens and truncated_documents.
    """
    pieces = np.bincount(lengths % length, minlength=length)
    pieces[0] = 0
    sequences = int(np.sum(lengths // length))  # full ones
    room = np.zeros(length + 1, np.int64)  # number of sequences with so much room
    for size in np.flatnonzero(pieces)[::-1].tolist():
        left = int(pieces[size])
        while left:
            fitting = np.flatnonzero(room[size:])
            if len(fitting):
                free = size + int(fitting[0])
            else:
                free = length
                room[length] = -(-left // (length // size))
                sequences += int(room[length])
            # A sequence that has taken a piece has the least room of all, so it takes the next ones too.
            each = free // size
            whole = min(int(room[free]), left // each)
            room[free] -= whole
            room[free - each * size] += whole
            left -= whole * each
            if left and room[free] and left < each:
                room[free] -= 1
                room[free - left * size] += 1
                left = 0
    return {
        "sequences": sequences,
        "padding_tokens": sequences * length - int(lengths.sum()),
        "truncated_documents": int(np.count_nonzero(lengths > length)),
    }


def cut_by_concatenation(starts: np.ndarray, total: int, length: int) -> int:
    """How many documents have tokens in more than one sequence if all are concatenated and cut.

    `starts` (uint64 [documents]) are their positions in the stream of `total` tokens; what is left behind
    the last full sequence counts as one more.
    """
    if not len(starts):
        return 0
    ends = np.append(starts[1:], np.uint64(total))
    return int(np.count_nonzero(starts // np.uint64(length) != (ends - np.uint64(1)) // np.uint64(length)))
