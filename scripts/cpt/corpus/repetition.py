"""Measures repetition in a document: lines, paragraphs, and n-grams of words (Rae et al. 2021, Table A1).

Line feeds separate lines, blank lines separate paragraphs; both are stripped of white space and never empty.
64-bit hashes compare them. A line is short by its width: an ideograph is as wide as three letters, kana and
Korean syllables as two. (An English word takes six letters with its space, a word of these scripts two or
three.) N-grams are counted as in datatrove's GopherRepetitionFilter; `cpt.corpus.words` defines a word.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numba import njit

from cpt.corpus.kernels import ONE, START, STEP, as_utf8, character, grown, hash_bytes, seen, table_size
from cpt.corpus.words import IDEOGRAPH, KANA, SPACE, classes, hash_words_in_parts

LINE_FEED = 10
# A document of more words (some 10 MB of English) is counted in parts, which bounds memory.
PART_WORDS = 2**21


class Lines(NamedTuple):
    """Counts of a text. Characters are code points; `characters`, of the whole text, includes white space."""

    characters: int
    lines: int
    short_lines: int
    duplicate_lines: int
    duplicate_line_characters: int
    paragraphs: int
    duplicate_paragraphs: int
    duplicate_paragraph_characters: int


def count_lines(text: str | np.ndarray, short: int) -> Lines:
    """Count a text's lines and paragraphs; a line is short if it is at most `short` letters wide.

    `text` may be its UTF-8 (uint8). Takes at most 32 bytes of memory per distinct line.
    """
    return Lines(*_count_lines(as_utf8(text), classes(), short))


@njit(cache=True)
def _count_lines(data, classes, short):
    lines = short_lines = duplicate_lines = duplicate_line_characters = 0
    paragraphs = duplicate_paragraphs = duplicate_paragraph_characters = 0
    line_hashes, paragraph_hashes = np.zeros(64, np.uint64), np.zeros(16, np.uint64)
    characters = 0  # before the current line
    inside = False  # a paragraph
    paragraph_characters = paragraph_end_characters = 0
    # Unsigned, since Python's negative indices would cost a test at each access.
    line, size = np.uint64(0), np.uint64(len(data))
    paragraph = paragraph_end = line
    while line <= size:
        line_end = line
        while line_end < size and data[line_end] != LINE_FEED:
            line_end += ONE
        length = 0
        for place in range(line, line_end):  # a loop of its own, so that it is vectorized
            length += (data[place] & 0xC0) != 0x80  # counts the first byte of each character
        begin, end, before, after = _stripped(data, line, line_end, classes)
        if begin < end:
            lines += 1
            stripped = length - before - after
            if stripped <= short:
                # The width of an ASCII line is its number of characters.
                short_lines += end - begin == stripped or _width(data, begin, end, classes) <= short
            if seen(line_hashes, max(hash_bytes(data, begin, end), ONE)):
                duplicate_lines += 1
                duplicate_line_characters += stripped
            elif 2 * (lines - duplicate_lines) > len(line_hashes):
                line_hashes = grown(line_hashes)
            if not inside:
                inside, paragraph, paragraph_characters = True, begin, characters + before
            paragraph_end, paragraph_end_characters = end, characters + length - after
        last = line_end == size
        if inside and (begin == end or last):
            paragraphs += 1
            # A text of one paragraph has nothing to compare it with.
            if paragraphs > 1 or not last:
                if seen(paragraph_hashes, max(hash_bytes(data, paragraph, paragraph_end), ONE)):
                    duplicate_paragraphs += 1
                    duplicate_paragraph_characters += paragraph_end_characters - paragraph_characters
                elif 2 * (paragraphs - duplicate_paragraphs) > len(paragraph_hashes):
                    paragraph_hashes = grown(paragraph_hashes)
            inside = False
        characters += length + (not last)
        line = line_end + ONE
    return (
        characters,
        lines,
        short_lines,
        duplicate_lines,
        duplicate_line_characters,
        paragraphs,
        duplicate_paragraphs,
        duplicate_paragraph_characters,
    )


@njit(cache=True)
def _width(data, begin, end, classes):
    """The width of the characters from `begin` to `end`, in letters of a script with spaces."""
    width = 0
    while begin < end:
        code, size = character(data, begin)
        korean = 0xAC00 <= code < 0xD7A4  # syllables
        width += 3 if classes[code] == IDEOGRAPH else 2 if classes[code] == KANA or korean else 1
        begin += size
    return width


@njit(cache=True)
def _stripped(data, begin, end, classes):
    """Begin and end without white space at both ends, and the number of characters stripped at each."""
    before = after = 0
    while begin < end:
        code, width = character(data, begin)
        if classes[code] != SPACE:
            break
        begin += width
        before += 1
    while begin < end:
        start = end - ONE
        while (data[start] & 0xC0) == 0x80:
            start -= ONE
        if classes[character(data, start)[0]] != SPACE:
            break
        end = start
        after += 1
    return begin, end, before, after


def ngram_characters(
    text: str | np.ndarray, top: Collection[int], duplicate: Collection[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """Characters in the most frequent n-gram, for each n of `top`, and in repeated ones, of `duplicate`.

    top: length of the most frequent n-gram, its words joined by one space, times its occurrences. Among
    equally frequent ones the first in the text counts. As in datatrove, an n-gram that occurs once
    counts too, so texts of very few words have a high share.

    duplicate: characters, without white space, of n-grams that occurred before. The text is read from the
    left: an n-gram seen before counts and is skipped; any other is remembered, and reading continues
    at the next word.

    `text` may be its UTF-8 (uint8). Takes about 40 bytes of memory per word, in addition to the text, for
    `PART_WORDS` words at most: the parts of a longer text are counted one by one and summed.
    """
    lengths = [*top, *duplicate]
    if not lengths:
        return {}, {}
    tops, duplicates = np.zeros((2, max(lengths) + 1), np.int64)
    for words, ends in hash_words_in_parts(text, PART_WORDS):
        part = _ngram_characters(words, ends, min(lengths), max(lengths))
        tops += part[0]
        duplicates += part[1]
    return {n: int(tops[n]) for n in top}, {n: int(duplicates[n]) for n in duplicate}


@njit(cache=True)
def _ngram_characters(words, ends, shortest, longest):
    """Both quantities for n from `shortest` to `longest`: int64 [longest + 1] each.

    An n-gram can only occur twice where its first n - 1 words do, so each n checks only the positions
    that n - 1 kept. These are numbered 0, 1, ...; an n-gram's number is that of the first position where it
    occurs. So comparing n + 1 words compares a pair: the number of their first n words, and one word.
    Numbers are unsigned, since Python's negative indices would cost a test at each access.
    """
    top = np.zeros(longest + 1, np.int64)
    duplicate = np.zeros(longest + 1, np.int64)
    count = length = np.uint64(len(words))
    positions = np.empty(len(words), np.uint32)
    for number in range(count):
        positions[number] = number
    ngrams = np.zeros(len(words), np.uint32)
    first = np.empty(len(words), np.uint32)  # number of the first equal n-gram
    occurrences = np.empty(len(words), np.uint32)  # of the n-gram, at its first number
    compared = np.uint64(shortest)  # words at the end of an n-gram that aren't part of its number
    table = np.empty(table_size(count), np.uint32)  # numbers plus one; 0: free
    for n in range(np.uint64(shortest), np.uint64(min(longest, len(words)) + 1)):
        while count and positions[count - ONE] + n > length:
            count -= ONE
        size = table_size(count)
        table[:size] = 0
        mask = size - ONE
        for number in range(count):
            ngram, end = ngrams[number], positions[number] + n
            key = np.uint64(ngram)
            for back in range(ONE, compared + ONE):
                key = (key * START ^ words[end - back]) * STEP
            slot = key >> np.uint64(32) & mask
            first[number], occurrences[number] = number, 1
            while True:
                if table[slot] == 0:
                    table[slot] = number + ONE
                    break
                other = table[slot] - ONE
                if ngrams[other] == ngram:
                    other_end = positions[other] + n
                    back = ONE
                    while back <= compared and words[other_end - back] == words[end - back]:
                        back += ONE
                    if back > compared:
                        first[number] = other
                        occurrences[other] += np.uint32(1)
                        break
                slot = slot + ONE & mask
        compared = ONE
        most, where = np.uint32(1), np.uint64(0)
        kept = np.uint64(0)
        for number in range(count):
            same = first[number]
            if occurrences[same] > most:
                most, where = occurrences[same], np.uint64(positions[number])
            positions[kept] = positions[number]
            ngrams[kept] = same
            kept += np.uint64(occurrences[same] > 1)
        count = kept
        top[n] = (np.int64(ends[where + n] - ends[where]) + np.int64(n - ONE)) * np.int64(most)
        duplicate[n] = _duplicate_characters(positions[:count], ngrams, occurrences, ends, n)
    return top, duplicate


@njit(cache=True)
def _duplicate_characters(positions, ngrams, occurrences, ends, n):
    """Characters of the n-grams at `positions` that occurred before; zeroes `occurrences` of those seen."""
    characters = 0
    resume = np.uint64(0)
    for number in range(len(positions)):
        position, ngram = np.uint64(positions[number]), ngrams[number]
        if position >= resume:
            if occurrences[ngram] == 0:  # remembered
                characters += np.int64(ends[position + n] - ends[position])
                resume = position + n
            occurrences[ngram] = 0
    return characters
