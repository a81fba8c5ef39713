r"""Splits texts into words and hashes these, so that n-grams are compared as numbers.

A word is a run of word characters (letters, digits, underscore: the `\w` of Python's `re`) and of the
marks and invisible characters after them. Other characters between two such runs join them (don't, 3.14,
x.y/z), except commas, hyphens and dashes; every other character that isn't white space is a word of its
own. This is close to spaCy's words, on which the published filters count n-grams; docs/filter-checks.md
measures how close.

Some scripts are written without spaces. There a hash of two neighbouring letters decides whether a run of
letters is cut between them: on average once every 2 letters (ideographs), 3 (kana) or 4 (Thai, Lao, Khmer,
Burmese and similar), the length of a word in these scripts. A cut depends on two neighbours alone, so the
same passage has the same words in any document. docs/filter-checks.md compares this with dictionaries.
`cpt.corpus.kernels` defines the hash of a word.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from typing import NamedTuple

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

# Classes of code points. Those from IDEOGRAPH on are letters of scripts without spaces, ordered by the
# usual number of letters per word.
SPACE, WORD, JOINING, SEPARATE, MARK, INVISIBLE, IDEOGRAPH, KANA, COMPLEX = range(9)
LONGEST = 4  # times the usual letters: the most letters in a word of such a script
# The scripts of Unicode's line-breaking classes ID, CJ and SA (UAX #14), and Tibetan, Balinese and Javanese.
_UNSPACED = {
    IDEOGRAPH: (
        (0x3005, 0x3007),
        (0x3021, 0x3029),
        (0x3400, 0x4DBF),
        (0x4E00, 0xA4CF),
        (0xF900, 0xFAFF),
        (0x16FE0, 0x18D8F),
        (0x1B170, 0x1B2FF),
        (0x20000, 0x3FFFF),
    ),
    KANA: ((0x3031, 0x3035), (0x3041, 0x312F), (0x31A0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),
    COMPLEX: (
        (0xE01, 0xEFF),
        (0xF00, 0xFFF),
        (0x1000, 0x109F),
        (0x1780, 0x17FF),
        (0x1950, 0x19DF),
        (0x1A20, 0x1AAF),
        (0x1B00, 0x1B7F),
        (0xA980, 0xA9FF),
        (0xAA60, 0xAADF),
        (0x11700, 0x1174F),
    ),
}
_SEPARATE = (
    r"[,\-–—\u3001-\u3004\u3008-\u301f\u3030\u303d\u30a0\u30fb"  # noqa: RUF001
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
_BY_CATEGORY = {"Mn": MARK, "Mc": MARK, "Me": MARK, "Cf": INVISIBLE, "Nd": WORD}
_TSHEG = "\u0f0b\u0f0c"  # separates syllables of Tibetan


@cache
def classes() -> np.ndarray:
    """The class of each code point: uint8 [0x110000]."""
    everything = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    classes = np.full(0x110000, JOINING, np.uint8)
    for pattern, kind in ((r"\w+", WORD), (r"\s+", SPACE), (_SEPARATE, SEPARATE)):
        for match in re.finditer(pattern, everything):
            classes[match.start() : match.end()] = kind
    for kind, ranges in _UNSPACED.items():
        for first, last in ranges:
            inside = classes[first : last + 1]
            inside[inside == WORD] = kind
    # Only these ranges hold marks. No `\w` character is a mark, but one of COMPLEX may be a digit.
    for first, end in ((0, 0x32000), (0xE0000, 0xE0200)):
        for code in (first + np.flatnonzero(np.isin(classes[first:end], (JOINING, COMPLEX)))).tolist():
            classes[code] = _BY_CATEGORY.get(unicodedata.category(everything[code]), classes[code])
    classes[list(map(ord, _TSHEG))] = MARK
    return classes


def _set_of(*kinds: int) -> str:
    """The code points of some classes, to go into the brackets of a regular expression."""
    inside = np.isin(classes(), kinds)
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).tolist()
    return "".join(
        rf"\U{first:08x}-\U{end - 1:08x}" for first, end in zip(edges[::2], edges[1::2], strict=True)
    )


class _Patterns(NamedTuple):
    """Words with punctuation, and without (both with a group for a run of scripts without spaces); the
    letters of such a run, with their marks; and invisible characters."""

    words: re.Pattern
    bare: re.Pattern
    letters: re.Pattern
    invisible: re.Pattern


@cache
def _patterns() -> _Patterns:
    marks, letters = _set_of(MARK, INVISIBLE), _set_of(WORD)
    word, unspaced = f"[{letters}][{letters}{marks}]*", f"[{_set_of(IDEOGRAPH, KANA, COMPLEX)}][{marks}]*"
    joining = f"[{_set_of(JOINING)}][{_set_of(JOINING)}{marks}]*"
    expressions = (
        rf"{word}(?:{joining}{word})*|((?:{unspaced})+)|\S",
        f"{word}|((?:{unspaced})+)",
        unspaced,
        f"[{_set_of(INVISIBLE)}]",
    )
    return _Patterns(*map(re.compile, expressions))


def each_word(text: str, punctuation: bool = True) -> Iterator[str]:
    """The words of a text as strings, in order; `hash_words` follows the same definition.

    Without `punctuation`, punctuation is skipped and invisible characters belong to no word.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    if not punctuation and not (classes()[codes] >= MARK).any():  # true of most texts, and much faster
        return map(itemgetter(0), re.finditer(r"\w+", text))
    return _words_of_any_script(text, punctuation)


def _words_of_any_script(text: str, punctuation: bool) -> Iterator[str]:
    patterns = _patterns()
    pattern = patterns.words if punctuation else patterns.bare
    for match in pattern.finditer(text if punctuation else patterns.invisible.sub("", text)):
        if match.lastindex:
            yield from _cut(patterns.letters.findall(match[0]))
        else:
            yield match[0]


def _cut(letters: list[str]) -> Iterator[str]:
    """The words of a run of letters (with their marks) of scripts without spaces."""
    begin = 0
    for end, letter in enumerate(letters, start=1):
        usual = letters_per_word(classes()[ord(letter[0])])
        full = end - begin >= LONGEST * usual
        if end == len(letters) or full or is_cut(ord(letter[0]), ord(letters[end][0]), usual):
            yield "".join(letters[begin:end])
            begin = end


@njit(cache=True)
def letters_per_word(kind):
    """The usual number of letters (int64) per word of scripts without spaces, by the class of a letter."""
    return np.int64(kind) - (IDEOGRAPH - 2)


@njit(cache=True)
def is_cut(letter, following, usual):
    """Whether a word ends between two letters (code points): a hash of both says so once in `usual` times."""
    mixed = np.uint64(letter) * np.uint64(0x9E3779B1) + np.uint64(following) * np.uint64(0x85EBCA6B)
    return ((mixed & np.uint64(0xFFFFFFFF)) >> np.uint64(16)) % np.uint64(usual) == 0


def words_of(text: str, punctuation: bool = True) -> list[str]:
    """The words of `each_word` as a list."""
    return list(each_word(text, punctuation))


def hash_words(text: str | np.ndarray, punctuation: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of a text's words, and where they end: uint64 [words] and int32 [words + 1].

    `text` may be its UTF-8 (uint8). Ends count characters of words only, not those between them, so words i
    to j have ends[j + 1] - ends[i] characters. `punctuation`: see `each_word`. Takes 12 bytes of memory per
    word in addition to the text. Raises UserError for a text of 2 GiB or more.
    """
    return next(hash_words_in_parts(text, LARGEST, punctuation))


def hash_words_in_parts(
    text: str | np.ndarray, limit: int, punctuation: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the arrays of `hash_words` for each `limit` words of the text; at least one part."""
    data = as_utf8(text)
    require_addressable(data)
    position = 0
    while True:
        hashes, ends, position = _hash_words(data, classes(), punctuation, position, limit)
        yield hashes, ends
        if position == len(data):
            return


@njit(cache=True)
def _read_word(data, classes, punctuation, place, code, width):
    """The hash of the word at `place` (first character `code`), its number of characters, and its end."""
    length, kind = np.uint64(len(data)), classes[code]
    value, packed = START, ONE
    end = place + width
    characters = letters = 1  # letters: only those of a script without spaces
    while True:
        while place < end:
            value, packed = with_byte(value, packed, np.uint64(data[place]))
            place += ONE
        if kind != WORD and kind < IDEOGRAPH:
            break
        if kind == WORD:
            while place < length:  # most words are ASCII throughout
                byte = data[place]
                if byte >= 0x80 or classes[byte] != WORD:
                    break
                value, packed = with_byte(value, packed, np.uint64(byte))
                place += ONE
                characters += 1
        if place == length or classes[data[place]] == SPACE:  # most words end here; no lead byte is SPACE
            break
        # The word continues with marks, or with joining characters and then a word character.
        joining = 0
        end = place
        following, width = character(data, end)
        after = classes[following]
        if after == INVISIBLE and not punctuation:
            place += width
            continue
        if after in (MARK, INVISIBLE):
            end += width
            characters += 1
            continue
        if kind >= IDEOGRAPH:
            usual = letters_per_word(kind)
            if after < IDEOGRAPH or letters >= LONGEST * usual or is_cut(code, following, usual):
                break
            code, kind = following, after
            letters += 1
        else:
            if after == JOINING and punctuation:
                while after in (JOINING, MARK, INVISIBLE):
                    end += width
                    joining += 1
                    if end == length:
                        break
                    following, width = character(data, end)
                    after = classes[following]
            if after != WORD:
                break
        end += width
        characters += joining + 1
    return mixed_in(value, packed), characters, place


@njit(cache=True)
def _hash_words(data, classes, punctuation, position, limit):
    """Hashes and ends of up to `limit` words from a position on, and the position after them."""
    # The most words there could be; pages that are never written take no memory.
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
        if kind == SPACE or (not punctuation and kind != WORD and kind < IDEOGRAPH):
            place += width
            continue
        if words == limit:
            break
        hashes[words], read, place = _read_word(data, classes, punctuation, place, code, width)
        characters += read
        words += 1
        ends[words] = characters
    return hashes[:words], ends[: words + 1], np.int64(place)


def with_single_spaces(data: np.ndarray) -> np.ndarray:
    """A text's UTF-8 (uint8) with each run of white space replaced by one space, and stripped."""
    return _with_single_spaces(data, classes())


@njit(cache=True)
def _with_single_spaces(data, classes):
    out = np.empty(len(data) + 1, np.uint8)
    place, written, length = np.uint64(0), np.uint64(0), np.uint64(len(data))
    after_space = True
    while place < length:
        code, width = character(data, place)
        space = classes[code] == SPACE
        # Without a branch for ASCII: the next byte overwrites a space that follows a space.
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
