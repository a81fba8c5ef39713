"""Shared by the compiled kernels: UTF-8, one hash of bytes for words, lines and n-grams, and hash tables.

Positions are unsigned, as Python's negative indices would cost a test at each access. The hash has 64 bits:
among a million different words of a document, two share a hash with a probability of about 3e-8.
"""

import numpy as np
from numba import njit

from cpt.errors import UserError

LARGEST = 2**31 - 2  # bytes: positions in a text are 32-bit integers
# Odd multipliers: the increment of splitmix64 (Steele et al. 2014) and a constant of xxHash's.
START = np.uint64(0x9E3779B97F4A7C15)
STEP = np.uint64(0xC2B2AE3D27D4EB4F)
ONE = np.uint64(1)  # also the value of `packed` without bytes
_SEVEN, _EIGHT, _HALF = np.uint64(7), np.uint64(8), np.uint64(32)
_FULL = np.uint64(1 << 56)


def as_utf8(text: str | np.ndarray) -> np.ndarray:
    """The UTF-8 of a text (uint8), lone surrogates included; an array is returned as it is."""
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8) if isinstance(text, str) else text


def require_addressable(data: np.ndarray) -> None:
    """Raise UserError if a text's UTF-8 (uint8) has 2 GiB or more."""
    if len(data) > LARGEST:
        raise UserError(f"a document has {len(data):,} bytes; split it into parts under 2 GiB")


@njit(cache=True)
def character(data, position):
    """The code point that starts at a position (uint64) of valid UTF-8, and its number of bytes (uint64)."""
    first = np.uint32(data[position])
    if first < 0x80:
        return first, ONE
    second = np.uint32(data[position + ONE]) & np.uint32(0x3F)
    if first < 0xE0:
        return np.uint32((first & np.uint32(0x1F)) << np.uint32(6) | second), np.uint64(2)
    third = np.uint32(data[position + np.uint64(2)]) & np.uint32(0x3F)
    code = second << np.uint32(6) | third
    if first < 0xF0:
        return np.uint32((first & np.uint32(0x0F)) << np.uint32(12) | code), np.uint64(3)
    fourth = np.uint32(data[position + np.uint64(3)]) & np.uint32(0x3F)
    code = code << np.uint32(6) | fourth
    return np.uint32((first & np.uint32(0x07)) << np.uint32(18) | code), np.uint64(4)


@njit(cache=True)
def mixed_in(value, packed):
    """A hash (uint64, begun with START) after up to seven more bytes. `packed` holds a one bit, which marks
    their number, and then the bytes."""
    value = (value ^ packed) * STEP
    return value ^ value >> _HALF


@njit(cache=True)
def with_byte(value, packed, byte):
    """Hash and packed bytes after one more byte (uint64); `mixed_in` finishes the hash after the last."""
    packed = packed << _EIGHT | byte
    if packed >= _FULL:
        return mixed_in(value, packed), ONE
    return value, packed


@njit(cache=True)
def hash_bytes(data, begin, end):
    """The hash (uint64) of the bytes from `begin` to `end`; equal to that of `with_byte` byte by byte."""
    value = START
    while end - begin >= _SEVEN:
        packed = ONE
        for number in range(_SEVEN):
            packed = packed << _EIGHT | np.uint64(data[begin + number])
        value = mixed_in(value, packed)
        begin += _SEVEN
    packed = ONE
    while begin < end:
        packed = packed << _EIGHT | np.uint64(data[begin])
        begin += ONE
    return mixed_in(value, packed)


@njit(cache=True)
def table_size(count):
    """A power of two (uint64) that leaves a hash table of `count` entries at least half empty."""
    size = np.uint64(16)
    while size < count << ONE:
        size = size << ONE
    return size


@njit(cache=True)
def seen(table, value):
    """Whether the hash table (0: free; a power of two long) contains a value; inserts it if not."""
    mask = np.uint64(len(table) - 1)
    slot = value & mask
    while table[slot] != 0:
        if table[slot] == value:
            return True
        slot = slot + ONE & mask
    table[slot] = value
    return False


@njit(cache=True)
def grown(table):
    """A hash table with the same values and twice the length."""
    larger = np.zeros(2 * len(table), np.uint64)
    for value in table:
        if value:
            seen(larger, value)
    return larger
