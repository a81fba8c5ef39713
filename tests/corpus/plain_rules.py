"""Lines, paragraphs and repeats in plain Python: the definitions that the compiled rules are held against."""

import re
from collections.abc import Sequence


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
