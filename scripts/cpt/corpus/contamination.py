"""Overlap of training documents with evaluation items, by n-grams of words.

Words are lower-cased and punctuation is dropped, as in GPT-3's check (Brown et al. 2020, appendix C)
and lm-eval's; both use 13-grams. An item shorter than n words matches as a whole, if it has at least
`SHORTEST_ITEM` words: shorter strings occur by chance.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from cpt.corpus.documents import as_strings, open_parquet, read_batches, utf8_of
from cpt.corpus.kernels import (
    ONE,
    START,
    STEP,
    as_utf8,
    character,
    mixed_in,
    require_addressable,
    table_size,
    with_byte,
)
from cpt.corpus.words import INVISIBLE, LONGEST, MARK, WORD, classes, each_word, is_cut, letters_per_word
from cpt.errors import UserError
from cpt.progress import Progress

SHORTEST_ITEM = 8  # words
PART_WORDS = 2**21  # a longer document is checked in parts of this many, which bounds memory
# Bits of a Bloom filter per word of the items, at least: about 1 in 100 other n-grams passes it.
FILTER_BITS = 8
# Capital sigma, whose small letter differs at the end of a word, and the only letter whose small form is
# two characters.
_SIGMA, _DOTTED_I = "\u03a3", "\u0130"
_BASE = START  # of the polynomials
# In the table of small letters: the position of the class's bits, and the mask of the code point.
CLASS_SHIFT, CODE = np.uint32(24), np.uint32(0x1FFFFF)
FIRST, SPAN = np.uint32(2), np.uint32((1 << 24) - 2)  # the range of plain letters


class Hit(NamedTuple):
    """The first n-gram that a document shares with an item; `item` is its position in `Items.names`."""

    item: int
    ngram: str


def contamination_of(
    path: Path, keep: np.ndarray, items: "Items"
) -> tuple[np.ndarray, int, list[dict[str, Any]], dict[str, int]]:
    """Compare those filtered documents of a file for which `keep` (bool [documents]) is true with the items.

    Returns which documents share an n-gram (bool [documents]); the bytes of UTF-8 of these; for each first
    n-gram that a document shares with an item its row, id, task, item and n-gram; and for each task the
    number of its items that were hit.
    """
    contaminated = np.zeros(len(keep), bool)
    size = position = 0
    hits: list[dict[str, Any]] = []
    touched: dict[str, set[int]] = {task: set() for task, _ in items.names}
    with Progress(f"decontaminating {path}", len(keep), "documents") as progress:
        for batch in read_batches(path, ["row", "id", "text"]):
            names = as_strings(batch["id"])
            for number, text in enumerate(utf8_of(as_strings(batch.pop("text")))):
                matches = items.hits(text) if keep[position] else []
                for hit in matches:
                    task, item = items.names[hit.item]
                    touched[task].add(item)
                    row, name = batch["row"][number].as_py(), names[number].as_py()
                    hits.append({"row": row, "id": name, "task": task, "item": item, "ngram": hit.ngram})
                contaminated[position] = bool(matches)
                size += len(text) if matches else 0
                position += 1
            progress.advance(len(names))
    return contaminated, size, hits, {task: len(numbers) for task, numbers in touched.items()}


class Items:
    """The evaluation items, with an index of the hashes of their n-grams.

    `n` is the n-gram's length in words. `paths` are parquet files with the columns task (string), item
    (int64) and text (string); an item in several files counts once. Raises UserError if a column is
    missing or a file has no items. Attributes: `names` (task and item), `texts` (UTF-8, lower-cased).
    """

    def __init__(self, paths: Sequence[Path], n: int):
        columns = ["task", "item", "text"]
        rows: dict[tuple[str, int, bytes], None] = {}
        for path in paths:
            if not open_parquet(path, columns).metadata.num_rows:
                raise UserError(f"{path}: holds no evaluation items; delete {path.parent} and run again")
            for batch in read_batches(path, columns):
                texts = map(_lower, utf8_of(as_strings(batch["text"])))
                entries = zip(batch["task"].to_pylist(), batch["item"].to_pylist(), texts, strict=True)
                rows.update(dict.fromkeys(entries))
        self.names: list[tuple[str, int]] = [row[:2] for row in rows]
        self.texts = [text for *_, text in rows]
        offsets = np.cumsum([0, *map(len, self.texts)]).astype(np.uint64)
        self.n = n
        content = np.frombuffer(b"".join(self.texts), np.uint8)
        self.index = _index(content, offsets, small_letters(), n, SHORTEST_ITEM)
        # Work space: the hash of all words before each word, and the position of the word.
        self.prefixes, self.begins = np.empty(0, np.uint64), np.empty(0, np.uint32)

    def counts(self) -> dict[str, tuple[int, int]]:
        """For each task the number of its items, and how many of these are too short to be searched for."""
        counts = Counter(task for task, _ in self.names)
        searched = Counter(self.names[number][0] for number in np.flatnonzero(np.bincount(self.index[2])))
        return {task: (count, count - searched[task]) for task, count in counts.items()}

    def hits(self, text: str | np.ndarray) -> list[Hit]:
        """The first hit of each item that shares an n-gram with `text` (or its UTF-8), sorted by item.

        Equal hashes are confirmed by comparing the words. Raises UserError for a text of 2 GiB or more.
        """
        data = as_utf8(text)
        require_addressable(data)
        # Pages that are never written take no memory.
        size = min(len(data) // 2 + 1, PART_WORDS) + self.n + 1
        if len(self.prefixes) < size:
            self.prefixes, self.begins = np.empty(size, np.uint64), np.empty(size, np.uint32)
        work = (self.prefixes, self.begins, small_letters())
        matches = _matches(data, self.n, SHORTEST_ITEM, PART_WORDS, *work, *self.index)
        if matches is None:  # the text has a capital sigma or a dotted I
            return self.hits(np.frombuffer(_lower(data), np.uint8))
        first: dict[int, Hit] = {}
        for begin, end, number, place in matches.tolist():
            if number not in first:
                ngram = list(each_word(_lower(data[begin:end]).decode(), punctuation=False))
                item = each_word(self.texts[number][place:].decode(), punctuation=False)
                if list(islice(item, len(ngram))) == ngram:
                    first[number] = Hit(number, " ".join(ngram))
        return [first[number] for number in sorted(first)]


def _lower(text: np.ndarray) -> bytes:
    """The lower-cased UTF-8 of a text's UTF-8 (uint8)."""
    return bytes(text).decode().lower().encode()


@cache
def small_letters() -> np.ndarray:
    """The code point of each code point's small letter: uint32 [0x110000].

    0: the character belongs to no word. 1: one of the two letters without one fixed small letter. Marks, and
    letters of scripts without spaces, have their class (see `cpt.corpus.words`) in the upper bits.
    """
    everything = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    small = everything.replace(_SIGMA, " ").replace(_DOTTED_I, " ").lower()
    table = np.frombuffer(small.encode("utf-32-le", "surrogatepass"), "<u4").copy()
    kinds = classes()[table]
    special = kinds >= MARK
    table[special] |= kinds[special].astype(np.uint32) << CLASS_SHIFT
    table[(kinds != WORD) & ~special] = 0
    table[[ord(_SIGMA), ord(_DOTTED_I)]] = 1
    return table


@njit(cache=True)
def _hash_prefixes(data, letters, place, prefixes, begins, words, limit):
    """Hash the words of a text from `place` on, until there are `limit` words.

    prefixes[words] is the hash of the words so far, a polynomial in `_BASE` of their hashes. The function
    appends the hash with one more word, two more, ... to `prefixes`, and the position of each word to
    `begins`, then the position where it stops. Returns the number of words and that position; a position
    beyond the text means that the text has a letter without one fixed small letter.
    """
    length = np.uint64(len(data))
    value, packed, inside = START, ONE, False
    # For a script without spaces: class and code of the last letter, and the number of letters in the word.
    kind, before, run = 0, np.uint32(0), 0
    while place < length:
        code, width = character(data, place)
        letter = letters[code]
        if np.uint32(letter - FIRST) < SPAN:
            if kind:
                words = _append(prefixes, words, value, packed)
                value, packed, inside, kind = START, ONE, False, 0
            if not inside:
                if words == limit:
                    break
                begins[words] = place
                inside = True
            value, packed = _with_letter(value, packed, letter)
            place += width
            while place < length and data[place] < 0x80 and letters[data[place]]:  # most words are ASCII
                value, packed = with_byte(value, packed, np.uint64(letters[data[place]]))
                place += ONE
            continue
        if letter == 0:
            if inside:
                words = _append(prefixes, words, value, packed)
                value, packed, inside, kind = START, ONE, False, 0
        elif letter == 1:
            return words, length + ONE
        else:
            after, lower = np.int64(letter >> CLASS_SHIFT), np.uint32(letter & CODE)
            if after == INVISIBLE or (after == MARK and not inside):
                place += width
                continue
            if after != MARK:
                if inside and _ends(kind, run, before, lower):
                    words = _append(prefixes, words, value, packed)
                    value, packed, inside = START, ONE, False
                if not inside:
                    if words == limit:
                        break
                    begins[words] = place
                    inside, run = True, 0
                kind, before, run = after, lower, run + 1
            value, packed = _with_letter(value, packed, lower)
        place += width
    if inside:
        words = _append(prefixes, words, value, packed)
    begins[words] = place
    return words, place


@njit(cache=True)
def _append(prefixes, words, value, packed):
    """Append the hash with one more word to `prefixes`; returns the number of words."""
    prefixes[words + ONE] = prefixes[words] * _BASE + mixed_in(value, packed)
    return words + ONE


@njit(cache=True)
def _ends(kind, run, before, letter):
    """Whether a word ends before a letter of a script without spaces (`before` was one if `kind` isn't 0)."""
    if kind == 0:
        return True
    usual = letters_per_word(kind)
    return run >= LONGEST * usual or is_cut(before, letter, usual)


@njit(cache=True)
def _with_letter(value, packed, letter):
    """A word's hash after the UTF-8 of one more letter."""
    shifts = 0 if letter < 0x80 else 1 if letter < 0x800 else 2 if letter < 0x10000 else 3
    for shift in range(shifts, -1, -1):  # UTF-8: six bits a byte, the lead byte has the rest
        bits = np.uint64(letter) >> np.uint64(6 * shift)
        byte = (bits if shift == shifts else bits & np.uint64(0x3F)) & np.uint64(0xFF)
        value, packed = with_byte(value, packed, byte)
    return value, packed


@njit(cache=True)
def _index(content, offsets, letters, n, shortest):
    """The index of what to search for: the n-grams of the items (lower-cased UTF-8), and whole shorter items.

    Returns, for each entry, its hash (uint64), its length in words, its item and its first byte there
    (uint32); a hash table of chains (int32): the first entry of each chain, and the next one of each entry;
    two Bloom filters: of all `shortest`-grams (n-grams if n is less) of the items with n words or more, and
    of the first `shortest` words of the shorter items.
    """
    # The most there could be; pages that are never written take no memory.
    size = len(content) // 2 + len(offsets)
    hashes, lengths = np.empty(size, np.uint64), np.empty(size, np.uint32)
    owners, places = np.empty(size, np.uint32), np.empty(size, np.uint32)
    beginnings = np.zeros(len(offsets), np.uint64)
    prefixes, begins = np.zeros(len(content) // 2 + 2, np.uint64), np.empty(len(content) // 2 + 2, np.uint32)
    count = shorter = 0
    part = min(shortest, n)
    part_power = _BASE ** np.uint64(part)
    bloom = _empty_filter(len(content) // 6)  # words, about
    for item in range(np.uint64(len(offsets) - 1)):
        text = content[offsets[item] : offsets[item + ONE]]
        words, _ = _hash_prefixes(
            text, letters, np.uint64(0), prefixes, begins, np.uint64(0), np.uint64(len(text))
        )
        length = min(np.int64(words), n)
        if length < min(shortest, n):
            continue
        if length < n:
            beginnings[shorter] = prefixes[shortest]
            shorter += 1
        else:
            for place in range(np.int64(words) - part + 1):
                word, bits = _place(prefixes[place + part] - prefixes[place] * part_power, len(bloom))
                bloom[word] |= bits
        power = _BASE ** np.uint64(length)
        for place in range(np.int64(words) - length + 1):
            hashes[count] = prefixes[place + length] - prefixes[place] * power
            lengths[count], owners[count], places[count] = length, item, begins[place]
            count += 1
    size = table_size(np.uint64(count))
    firsts, nexts = np.full(size, -1, np.int32), np.empty(count, np.int32)
    for entry in range(count - 1, -1, -1):
        chain = _chain(hashes[entry], size)
        nexts[entry], firsts[chain] = firsts[chain], entry
    short_bloom = _empty_filter(shorter)
    for value in beginnings[:shorter]:
        word, bits = _place(value, len(short_bloom))
        short_bloom[word] |= bits
    columns = hashes[:count].copy(), lengths[:count].copy(), owners[:count].copy(), places[:count].copy()
    return (*columns, firsts, nexts, bloom, short_bloom)


@njit(cache=True)
def _empty_filter(count):
    """An empty Bloom filter with at least `FILTER_BITS` bits for each of `count` entries: uint64 [2**k].

    An entry sets three bits of one word (a blocked Bloom filter: a look-up reads one cache line).
    """
    size = 512  # 4 KiB, a small part of the L1 cache
    while 64 * size < FILTER_BITS * count:
        size *= 2
    return np.zeros(size, np.uint64)


@njit(cache=True)
def _place(value, size):
    """Which of `size` words of a Bloom filter an entry is in (uint64), and its bits there."""
    mixed = (value ^ (value >> np.uint64(32))) * STEP
    mask = np.uint64(0)
    for _ in range(3):
        mask |= ONE << (mixed & np.uint64(63))
        mixed >>= np.uint64(6)
    return mixed >> np.uint64(6) & np.uint64(size - 1), mask


@njit(cache=True)
def _chain(value, size):
    """Which of `size` chains of the hash table an entry is in (uint64)."""
    return (value * STEP) >> np.uint64(32) & np.uint64(size - 1)


@njit(cache=True)
def _candidates(prefixes, n, part, last, bloom):
    """Positions (int64) before `last` at which there may be an n-gram whose `part`-grams are in the filter.

    Only every (n - part + 1)th `part`-gram of the text is looked up, since each n-gram contains one of them.
    One that is in the filter makes all n-grams around it candidates.
    """
    gram, stride = np.uint64(part), n - part + 1
    power = _BASE**gram
    positions = np.empty(last + stride, np.int64)  # unwritten pages take no memory
    count = 0
    for middle in range(np.uint64(0), np.uint64(min(last + stride, len(prefixes) - part)), np.uint64(stride)):
        word, bits = _place(prefixes[middle + gram] - prefixes[middle] * power, len(bloom))
        if bloom[word] & bits == bits:
            for position in range(max(0, np.int64(middle) - stride + 1), min(np.int64(middle) + 1, last)):
                positions[count] = position
                count += 1
    return positions[:count]


@njit(cache=True)
def _matches(
    data, n, shortest, limit, prefixes, begins, letters,
    hashes, lengths, owners, places, firsts, nexts, long_bloom, short_bloom,
):  # fmt: skip
    """Entries of the index in a text: begin and end (bytes), item, begin in the item; int64 [matches, 4].

    Begins ascend among n-grams, and among shorter items; the end is where the next word begins. Processes
    `limit` words at a time. None if the text has a letter without one fixed small letter.
    """
    matches = np.empty((16, 4), np.int64)
    count = 0
    place = np.uint64(0)
    kept = 0  # words after prefixes[0] that are hashed already
    prefixes[0] = 0
    while place < np.uint64(len(data)):
        words, place = _hash_prefixes(
            data, letters, place, prefixes, begins, np.uint64(kept), np.uint64(kept) + np.uint64(limit)
        )
        if place > np.uint64(len(data)):
            return None
        end = place == np.uint64(len(data))
        # A position is checked once the whole n-gram there is hashed; the last positions at the text's end.
        last = words if end else words - min(words, np.uint64(n - 1))
        for shorter in range(2 if shortest < n else 1):
            size, bloom = (shortest, short_bloom) if shorter else (n, long_bloom)
            part = min(shortest, size)
            for position in _candidates(prefixes[: words + ONE], size, part, np.int64(last), bloom):
                for length in range(size, n if shorter else n + 1):
                    if position + length > words:
                        break
                    value = prefixes[position + length] - prefixes[position] * _BASE ** np.uint64(length)
                    entry = firsts[_chain(value, len(firsts))]
                    while entry >= 0:
                        if hashes[entry] == value and lengths[entry] == length:
                            if count == len(matches):
                                more = np.empty((2 * count, 4), np.int64)
                                more[:count] = matches
                                matches = more
                            matches[count, 0], matches[count, 1] = begins[position], begins[position + length]
                            matches[count, 2], matches[count, 3] = owners[entry], places[entry]
                            count += 1
                        entry = nexts[entry]
        kept = np.int64(words - last)
        for number in range(kept + 1):
            prefixes[number] = prefixes[np.int64(last) + number]
            begins[number] = begins[np.int64(last) + number]
    return matches[:count]
