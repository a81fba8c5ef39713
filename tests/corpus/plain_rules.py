"""Lines, paragraphs and repeats in plain Python: the definitions that the compiled rules are held against."""

import re
from collections.abc import Sequence

from cpt.config_sections import DocumentFilters, LengthFilter, RepetitionFilter
from cpt.corpus.filters import Rules


def rules_of(filters: dict) -> Rules:
    """The rules of the config's `filters`, unchecked: a share of 9 is a rule that drops nothing."""
    length, repetition = filters["length"], filters["repetition"]
    sections = LengthFilter.model_construct(**length), RepetitionFilter.model_construct(**repetition)
    return Rules(DocumentFilters.model_construct(length=sections[0], repetition=sections[1]))


def lines_of(text: str) -> list[str]:
    """The lines that hold more than white space, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
    """What blank lines separate, stripped."""
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip())]


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts equal an earlier one, and how many characters these have."""
    repeats = [part for number, part in enumerate(parts) if part in set(parts[:number])]
    return len(repeats), sum(map(len, repeats))
