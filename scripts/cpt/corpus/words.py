r"""Words of a text as an array of hashes, so that counting n-grams is comparing numbers.

A word is a run of word characters (letters, digits, underscore: the `\w` of Python's `re`). Other
characters between two such runs join them (don't, 3.14, x.y/z), except commas, hyphens and
dashes; every other character that isn't white space is a word of its own. This comes close to spaCy's
words, on which the published filters count n-grams; docs/filters.md says how close.

Words are told apart by a 64-bit hash. Two different words of a document with a million different ones
share a hash with probability of about 3e-8.
"""

import re
from collections.abc import Iterator
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
_FULL = np.uint64(1 << 56)


@cache
def classes() -> np.ndarray:
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


def as_utf8(text: str | np.ndarray) -> np.ndarray:
    """The UTF-8 of a text (uint8); lone surrogates pass. An array is taken for UTF-8 already."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8) if isinstance(text, str) else text


def hash_words(text: str | np.ndarray, punctuation: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of a text's words, and where they end: uint64 [words] and int32 [words + 1].

    `text` may be its UTF-8 as well (uint8). Ends are counted in characters, white space and left-out
    words not counted, so words i to j have ends[j + 1] - ends[i] characters. With `punctuation` false,
    words are the runs of word characters alone. Takes 12 bytes of memory for each word, besides the
    text's bytes. Raises UserError for a text of 2 GiB or more.
    """
    return next(hash_words_in_parts(text, LARGEST, punctuation))


def hash_words_in_parts(
    text: str | np.ndarray, limit: int, punctuation: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `hash_words` gives, for each `limit` words of the text in turn; at least one part."""
    data = as_utf8(text)
    if len(data) > LARGEST:
        raise UserError(f"a document has {len(data):,} bytes; split documents of 2 GiB and more")
    position = 0
    while True:
        hashes, ends, position = _hash_words(data, classes(), punctuation, position, limit)
        yield hashes, ends
        if position == len(data):
            return


@njit(cache=True)
def character(data, position):
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
def _hash_words(data, classes, punctuation, position, limit):
    """Hashes and ends of up to `limit` words from a position on, and the position after them."""
    # As long as there could be words; memory that isn't written to is never taken from the system.
    size = min(len(data) - position, limit)
    hashes = np.empty(size, np.uint64)
    ends = np.empty(size + 1, np.int32)
    ends[0] = 0
    words = characters = 0
    while position < len(data):
        code, width = character(data, position)
        kind = classes[code]
        if kind == SPACE or (kind != WORD and not punctuation):
            position += width
            continue
        if words == limit:
            break
        value = _START
        packed = np.uint64(1)  # up to seven bytes after a one, which tells how many there are
        end = position + width
        characters += 1
        while True:
            while position < end:
                packed = packed << np.uint64(8) | np.uint64(data[position])
                if packed >= _FULL:
                    value = (value ^ packed) * _STEP
                    value ^= value >> np.uint64(32)
                    packed = np.uint64(1)
                position += 1
            if kind != WORD or position == len(data):
                break
            # Another word character belongs to the word, and so do joining ones before it.
            joining = 0
            code, width = character(data, end)
            after = classes[code]
            if after == JOINING and punctuation:
                while after == JOINING:
                    end += width
                    joining += 1
                    if end == len(data):
                        break
                    code, width = character(data, end)
                    after = classes[code]
            if after != WORD:
                break
            end += width
            characters += joining + 1
        value = (value ^ packed) * _STEP
        hashes[words] = value ^ value >> np.uint64(32)
        words += 1
        ends[words] = characters
    return hashes[:words], ends[: words + 1], position


def with_single_spaces(data: np.ndarray) -> np.ndarray:
    """A text's UTF-8 (uint8) with one space for each run of white space, and none at the ends."""
    return _with_single_spaces(data, classes())


@njit(cache=True)
def _with_single_spaces(data, classes):
    out = np.empty(len(data) + 1, np.uint8)
    length = position = 0
    after_space = False
    while position < len(data):
        code, width = character(data, position)
        if classes[code] == SPACE:
            after_space = length > 0
        else:
            if after_space:
                out[length] = 0x20
                length += 1
                after_space = False
            out[length] = data[position]
            length += 1
            for more in range(position + 1, position + width):
                out[length] = data[more]
                length += 1
        position += width
    return out[:length]
