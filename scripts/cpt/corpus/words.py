r"""Words of a text as an array of hashes, so that counting n-grams is comparing numbers.

A word is a run of word characters (letters, digits, underscore: the `\w` of Python's `re`). Other
characters between two such runs join them (don't, 3.14, x.y/z), except commas, hyphens and
dashes; every other character that isn't white space is a word of its own. This comes close to spaCy's
words, on which the published filters count n-grams; docs/filters.md says how close.

Words are told apart by a 64-bit hash. Two different words of a document with a million different ones
share a hash with probability of about 3e-8.
"""

import re
from functools import cache

import numpy as np
from numba import njit

from cpt.errors import UserError

SPACE, WORD, JOINING, SEPARATE = 0, 1, 2, 3
_WORDS = re.compile(r"\w+(?:[^\w\s,\-–—]+\w+)*|[^\w\s]")  # noqa: RUF001
LARGEST = 2**31 - 2  # bytes: positions in a text are 32-bit integers
# Odd multipliers: the increment of splitmix64 (Steele et al. 2014) and a constant of xxHash's.
_START = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xC2B2AE3D27D4EB4F)


@cache
def _classes() -> np.ndarray:
    """The class of each code point: uint8 [0x110000]."""
    everything = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    classes = np.full(0x110000, JOINING, np.uint8)
    for pattern, kind in ((r"\w+", WORD), (r"\s+", SPACE), (r"[,\-–—]", SEPARATE)):  # noqa: RUF001
        for match in re.finditer(pattern, everything):
            classes[match.start() : match.end()] = kind
    return classes


def words_of(text: str, punctuation: bool = True) -> list[str]:
    """The words of a text as strings, in order; the definition that `hash_words` follows."""
    return _WORDS.findall(text) if punctuation else re.findall(r"\w+", text)


def hash_words(text: str, punctuation: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of a text's words, and where they end: uint64 [words] and int32 [words + 1].

    Ends are counted in characters, white space and left-out words not counted, so words i to j have
    ends[j + 1] - ends[i] characters. With `punctuation` false, words are the runs of word characters
    alone. Takes the text's bytes and 12 bytes of memory for each word. Raises
    UserError for a text of 2 GiB or more.
    """
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    if len(data) > LARGEST:
        raise UserError(f"a document has {len(data):,} bytes; split documents of 2 GiB and more")
    return _hash_words(data, _classes(), punctuation)


@njit(cache=True)
def _character(data, position):
    """The code point that starts at a position of valid UTF-8, and its number of bytes."""
    first = np.int64(data[position])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (data[position + 1] & 0x3F), 2
    code = (data[position + 1] & 0x3F) << 6 | (data[position + 2] & 0x3F)
    if first < 0xF0:
        return (first & 0x0F) << 12 | code, 3
    return (first & 0x07) << 18 | code << 6 | (data[position + 3] & 0x3F), 4


@njit(cache=True)
def _hash_words(data, classes, punctuation):
    # As long as there could be words; memory that isn't written to is never taken from the system.
    hashes = np.empty(len(data), np.uint64)
    ends = np.empty(len(data) + 1, np.int32)
    ends[0] = 0
    words = characters = position = 0
    while position < len(data):
        code, width = _character(data, position)
        kind = classes[code]
        if kind == SPACE or (kind != WORD and not punctuation):
            position += width
            continue
        value = _START
        end = position + width
        characters += 1
        while True:
            while position < end:
                value = (value ^ data[position]) * _STEP
                value ^= value >> np.uint64(32)
                position += 1
            if kind != WORD or position == len(data):
                break
            # Another word character belongs to the word, and so do joining ones before it.
            joining = 0
            code, width = _character(data, end)
            after = classes[code]
            while after == JOINING and punctuation:
                end += width
                joining += 1
                if end == len(data):
                    break
                code, width = _character(data, end)
                after = classes[code]
            if after != WORD:
                break
            end += width
            characters += joining + 1
        hashes[words] = value
        words += 1
        ends[words] = characters
    return hashes[:words], ends[: words + 1]
