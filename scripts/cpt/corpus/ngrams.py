"""How much of a document its repeated n-grams of words make up (Rae et al. 2021, Table A1).

The two quantities are computed as datatrove's GopherRepetitionFilter does; `cpt.corpus.words` says what
a word is.
"""

from collections.abc import Collection

import numpy as np
from numba import njit

from cpt.corpus.words import hash_words

# Odd multipliers: the increment of splitmix64 (Steele et al. 2014) and a constant of xxHash's.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xC2B2AE3D27D4EB4F)


def ngram_characters(
    text: str, top: Collection[int], duplicate: Collection[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Characters in the most frequent n-gram, for each n of `top`, and in duplicates, of `duplicate`.

    top: length of the most frequent n-gram, its words joined by one space, times its occurrences. Among
    equally frequent ones the first in the text counts. As in datatrove, an n-gram that occurs once
    counts as well, so texts of very few words have a high share.

    duplicate: characters, white space not counted, of the n-grams that occurred before. Read from the
    left: an n-gram met before counts and is jumped over; any other is remembered, and reading goes on
    at the next word.

    Takes about 35 bytes of memory per word, besides the text's bytes.
    """
    words, ends = hash_words(text)
    tops, duplicates = _ngram_characters(words, ends, max([0, *top, *duplicate]))
    return {n: int(tops[n]) for n in top}, {n: int(duplicates[n]) for n in duplicate}


@njit(cache=True)
def _ngram_characters(words, ends, longest):
    """Both quantities for n up to `longest`: int64 [longest + 1] each.

    An n-gram can only occur twice where its first n - 1 words do, so each n looks only at the positions
    that the shorter one left. These are numbered 0, 1, ...; the number of the first position with the
    same n-gram stands for that n-gram, which makes n + 1 words a pair to compare: that number and a word.
    """
    top = np.zeros(longest + 1, np.int64)
    duplicate = np.zeros(longest + 1, np.int64)
    positions = np.arange(len(words)).astype(np.int32)
    ngrams = np.zeros(len(words), np.int32)
    first = np.empty(len(words), np.int32)  # number of the first equal n-gram; there, minus their count
    count = len(words)
    for n in range(1, min(longest, len(words)) + 1):
        while count and positions[count - 1] + n > len(words):
            count -= 1
        bits = 4
        while 4 << bits < 5 * count:
            bits += 1
        table = np.full(1 << bits, -1, np.int32)
        shift, mask = np.uint64(64 - bits), (1 << bits) - 1
        most, where = 1, 0
        for number in range(count):
            word = words[positions[number] + n - 1]
            slot = np.int64(((word ^ (np.uint64(ngrams[number]) * _SPREAD)) * _STEP) >> shift)
            while True:
                other = table[slot]
                if other < 0:
                    table[slot] = number
                    first[number] = -1
                    break
                if ngrams[other] == ngrams[number] and words[positions[other] + n - 1] == word:
                    first[number] = other
                    first[other] -= 1
                    break
                slot = (slot + 1) & mask
        kept = 0
        for number in range(count):
            same = first[number]
            if same < 0:
                same = number
                if -first[number] > most:
                    most, where = -first[number], positions[number]
            if first[same] < -1:
                positions[kept] = positions[number]
                ngrams[kept] = same
                kept += 1
        count = kept
        top[n] = (ends[where + n] - ends[where] + n - 1) * most
        resume = 0
        for number in range(count):
            position, ngram = positions[number], ngrams[number]
            if position >= resume:
                if first[ngram] == 0:  # remembered
                    duplicate[n] += ends[position + n] - ends[position]
                    resume = position + n
                first[ngram] = 0
    return top, duplicate
