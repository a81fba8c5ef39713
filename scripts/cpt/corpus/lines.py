"""Lines and paragraphs of a text, and which of them repeat an earlier one, in one compiled scan.

A line is what line feeds separate, stripped of white space; a paragraph is what blank lines separate,
stripped. Neither is empty. They are told apart by a 64-bit hash.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from cpt.corpus.kernels import ONE, as_utf8, character, grown, hash_bytes, seen
from cpt.corpus.words import SPACE, classes

LINE_FEED = 10


class Lines(NamedTuple):
    """Counts of a text; characters are code points, those of the whole text include white space."""

    characters: int
    lines: int
    short_lines: int
    duplicate_lines: int
    duplicate_line_characters: int
    paragraphs: int
    duplicate_paragraphs: int
    duplicate_paragraph_characters: int


def count_lines(text: str | np.ndarray, short: int) -> Lines:
    """Count a text's lines and paragraphs; lines of at most `short` characters are short.

    `text` may be its UTF-8 as well (uint8). Takes at most 32 bytes of memory per different line.
    """
    return Lines(*_count_lines(as_utf8(text), classes(), short))


@njit(cache=True)
def _count_lines(data, classes, short):
    lines = short_lines = duplicate_lines = duplicate_line_characters = 0
    paragraphs = duplicate_paragraphs = duplicate_paragraph_characters = 0
    line_hashes, paragraph_hashes = np.zeros(64, np.uint64), np.zeros(16, np.uint64)
    characters = 0  # before the line in hand
    inside = False  # a paragraph
    paragraph_characters = paragraph_end_characters = 0
    # Unsigned, as Python's negative indices would cost a test at each access.
    line, size = np.uint64(0), np.uint64(len(data))
    paragraph = paragraph_end = line
    while line <= size:
        line_end = line
        while line_end < size and data[line_end] != LINE_FEED:
            line_end += ONE
        length = 0
        for place in range(line, line_end):  # by itself, so that it is vectorized
            length += (data[place] & 0xC0) != 0x80  # bytes that aren't the second or later of a character
        begin, end, before, after = _stripped(data, line, line_end, classes)
        if begin < end:
            lines += 1
            stripped = length - before - after
            short_lines += stripped <= short
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
            # A text of one paragraph has no other to compare with.
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
        *(characters, lines, short_lines, duplicate_lines, duplicate_line_characters),
        *(paragraphs, duplicate_paragraphs, duplicate_paragraph_characters),
    )


@njit(cache=True)
def _stripped(data, begin, end, classes):
    """Begin and end of what white space at both ends leaves, and how many characters it has there."""
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
