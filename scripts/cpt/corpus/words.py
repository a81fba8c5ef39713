r"""Words and n-grams of a text as arrays, so that counting them is sorting numbers.

A word is a run of word characters (letters, digits, underscore: the `\w` of Python's `re`); every other
character that isn't white space is a word of its own. It stands in for the word tokenizers (spaCy,
NLTK) of the published filters, which split punctuation off as well.

Words are told apart by a 64-bit hash. Two different n-grams of a document of a million words share a
hash with probability of about 3e-8.
"""

import re
from functools import cache

import numpy as np

BLOCK_CHARACTERS = 2**20
SPACE, WORD, OTHER = 0, 1, 2
# Odd multipliers: the increment of splitmix64 (Steele et al. 2014) and a constant of xxHash's.
_NOT_WORD = re.compile(r"\W")
_BASE = 0x9E3779B97F4A7C15
_STEP = np.uint64(0xC2B2AE3D27D4EB4F)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014) over uint64 values."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each code point its class (uint8) and a random number (uint64)."""
    everything = "".join(map(chr, range(0x110000)))
    classes = np.full(0x110000, OTHER, np.uint8)
    for pattern, kind in ((r"\w+", WORD), (r"\s+", SPACE)):
        for match in re.finditer(pattern, everything):
            classes[match.start() : match.end()] = kind
    return classes, _mixed(np.arange(1, 0x110001, dtype=np.uint64) * np.uint64(_BASE))


@cache
def _powers(length: int) -> np.ndarray:
    """_BASE to the powers 0, 1, ..., length - 1, modulo 2**64."""
    powers = np.full(length, _BASE, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def words_of(text: str, punctuation: bool = True) -> list[str]:
    """The words of a text as strings, in order; the definition that `hash_words` follows."""
    return re.findall(r"\w+|[^\w\s]" if punctuation else r"\w+", text)


def hash_words(text: str, punctuation: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint64 [words]) and lengths in characters (int64 [words]) of a text's words, in order.

    With `punctuation` false, the words that consist of other characters are left out. Works in blocks
    of about a million characters, so memory grows with the number of words only.
    """
    hashes, lengths = [], []
    begin = 0
    while begin < len(text):
        boundary = _NOT_WORD.search(text, begin + BLOCK_CHARACTERS)
        end = boundary.start() if boundary else len(text)
        block = _hash_block(text[begin:end], punctuation)
        hashes.append(block[0])
        lengths.append(block[1])
        begin = end
    if not hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate(hashes), np.concatenate(lengths)


def _hash_block(text: str, punctuation: bool) -> tuple[np.ndarray, np.ndarray]:
    class_of, number_of = _tables()
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = class_of[characters]
    starts = classes == OTHER
    starts[1:] |= (classes[1:] == WORD) & (classes[:-1] != WORD)
    starts[0] |= classes[0] == WORD
    used = np.flatnonzero(classes if punctuation else classes == WORD)
    first = np.flatnonzero(starts[used])  # where words start among the used characters
    if not len(first):
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    lengths = np.diff(first, append=len(used))
    offsets = np.arange(len(used)) - np.repeat(first, lengths)
    longest = 1 << int(lengths.max() - 1).bit_length()
    values = number_of[characters[used]] * _powers(longest)[offsets]
    return _mixed(np.add.reduceat(values, first)), lengths


def hash_ngrams(words: np.ndarray, n: int) -> np.ndarray:
    """Hashes of all n-grams of words: uint64 [max(0, words - n + 1)]."""
    count = max(0, len(words) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for step in range(n):
        hashes = extend_ngrams(hashes, words[step : step + count])
    return hashes


def extend_ngrams(hashes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Hashes of n-grams, each made longer by the word that follows it."""
    return _mixed(hashes * _STEP + words)
