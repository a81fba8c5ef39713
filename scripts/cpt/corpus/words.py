r"""Words of a text as an array of hashes, so that counting n-grams is comparing numbers.

A word is a run of word characters (letters, digits, underscore: the `\w` of Python's `re`). Other
characters between two such runs join them (don't, 3.14, x.y/z), except commas, hyphens and
dashes; every other character that isn't white space is a word of its own. This comes close to spaCy's
words, on which the published filters count n-grams; docs/filters.md says how close. `cpt.corpus.kernels`
has the hash.
"""

import re
from collections.abc import Iterator
from functools import cache

import numpy as np
from numba import njit

from cpt.corpus.kernels import (
    LARGEST,
    ONE,
    START,
    as_utf8,
    character,
    mixed_in,
    require_addressable,
    with_byte,
)

SPACE, WORD, JOINING, SEPARATE = 0, 1, 2, 3
_WORDS = re.compile(r"\w+(?:[^\w\s,\-–—]+\w+)*|[^\w\s]")  # noqa: RUF001


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
    require_addressable(data)
    position = 0
    while True:
        hashes, ends, position = _hash_words(data, classes(), punctuation, position, limit)
        yield hashes, ends
        if position == len(data):
            return


@njit(cache=True)
def _hash_words(data, classes, punctuation, position, limit):
    """Hashes and ends of up to `limit` words from a position on, and the position after them."""
    # As long as there could be words; memory that isn't written to is never taken from the system.
    size = min(len(data) - position, limit)
    hashes = np.empty(size, np.uint64)
    ends = np.empty(size + 1, np.int32)
    ends[0] = 0
    words = characters = 0
    # Unsigned, as Python's negative indices would cost a test at each access.
    place, length = np.uint64(position), np.uint64(len(data))
    while place < length:
        code, width = character(data, place)
        kind = classes[code]
        if kind == SPACE or (kind != WORD and not punctuation):
            place += width
            continue
        if words == limit:
            break
        value, packed = START, ONE
        end = place + width
        characters += 1
        while True:
            while place < end:
                value, packed = with_byte(value, packed, np.uint64(data[place]))
                place += ONE
            if kind != WORD:
                break
            while place < length:  # most words are ASCII throughout
                byte = data[place]
                if byte >= 0x80 or classes[byte] != WORD:
                    break
                value, packed = with_byte(value, packed, np.uint64(byte))
                place += ONE
                characters += 1
            if place == length:
                break
            # Another word character belongs to the word, and so do joining ones before it.
            joining = 0
            end = place
            code, width = character(data, end)
            after = classes[code]
            if after == JOINING and punctuation:
                while after == JOINING:
                    end += width
                    joining += 1
                    if end == length:
                        break
                    code, width = character(data, end)
                    after = classes[code]
            if after != WORD:
                break
            end += width
            characters += joining + 1
        hashes[words] = mixed_in(value, packed)
        words += 1
        ends[words] = characters
    return hashes[:words], ends[: words + 1], np.int64(place)


def with_single_spaces(data: np.ndarray) -> np.ndarray:
    """A text's UTF-8 (uint8) with one space for each run of white space, and none at the ends."""
    return _with_single_spaces(data, classes())


@njit(cache=True)
def _with_single_spaces(data, classes):
    out = np.empty(len(data) + 1, np.uint8)
    place, written, length = np.uint64(0), np.uint64(0), np.uint64(len(data))
    after_space = True
    while place < length:
        code, width = character(data, place)
        space = classes[code] == SPACE
        # No branch for ASCII: what a space after a space writes is overwritten.
        out[written] = 0x20 if space else data[place]
        written += np.uint64(not (space and after_space))
        after_space = space
        place += ONE
        if width > ONE:
            end = place + width - ONE
            while place < end:
                if not space:
                    out[written] = data[place]
                    written += ONE
                place += ONE
    return out[: written - ONE if written and after_space else written]
