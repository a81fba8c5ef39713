"""Lines, paragraphs and repeats in plain Python: the definitions that tests compare compiled rules with."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from cpt.config_sections import DocumentFilters, LengthFilter, RepetitionFilter
from cpt.corpus.filters import Rules
from cpt.corpus.words import IDEOGRAPH, LONGEST, classes


def rules_of(filters: dict) -> Rules:
    """The rules of the config's `filters`, unchecked: a share of 9 is a rule that drops nothing."""
    length, repetition = filters["length"], filters["repetition"]
    sections = LengthFilter.model_construct(**length), RepetitionFilter.model_construct(**repetition)
    return Rules(DocumentFilters.model_construct(length=sections[0], repetition=sections[1]))


def lines_of(text: str) -> list[str]:
    """The lines that aren't blank, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
    """The parts between blank lines, stripped."""
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip())]


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts equal an earlier one, and how many characters they have."""
    repeats = [part for number, part in enumerate(parts) if part in set(parts[:number])]
    return len(repeats), sum(map(len, repeats))


def split_words(text: str) -> list[str]:
    """The words of a text, letter by letter."""
    return ["".join(word) for word in _groups(text)]


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or character in "\u0f0b\u0f0c"


def _unspaced(character: str) -> int:
    """Usual letters per word in a script without spaces; 0 for all other characters."""
    return max(0, int(classes()[ord(character)]) - IDEOGRAPH + 2) if _is_letter(character) else 0


def _groups(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        first = text[place]
        end = place + 1
        if _is_letter(first):
            end = _end_of_unspaced(text, place) if _unspaced(first) else _end_of_word(text, place)
        if not first.isspace():
            yield text[place:end]
        place = end


def _end_of_marks(text: str, place: int) -> int:
    while place < len(text) and _is_mark(text[place]):
        place += 1
    return place


def _end_of_unspaced(text: str, place: int) -> int:
    letters = 0
    while True:
        letter, usual = text[place], _unspaced(text[place])
        letters += 1
        place = _end_of_marks(text, place + 1)
        if place == len(text) or not _unspaced(text[place]) or letters >= LONGEST * usual:
            return place
        mixed = (ord(letter) * 0x9E3779B1 + ord(text[place]) * 0x85EBCA6B) % 2**32
        if (mixed >> 16) % usual == 0:
            return place


def _end_of_word(text: str, place: int) -> int:
    separate = re.compile(r"[\s,\-–—\u3001-\u3004\u3008-\u301f\u3030\u303d\u30a0\u30fb\uff01-\uff65]")  # noqa: RUF001
    while True:
        while place < len(text) and _is_letter(text[place]) and not _unspaced(text[place]):
            place = _end_of_marks(text, place + 1)
        further = place
        while further < len(text) and not _is_letter(text[further]) and not separate.match(text[further]):
            further += 1
        if further in (place, len(text)) or not _is_letter(text[further]) or _unspaced(text[further]):
            return place
        place = further
