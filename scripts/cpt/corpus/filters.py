"""Which documents are worth training on: length and repetition (paper 3.2.1).

The repetition rules are Gopher's (Rae et al. 2021, Table A1), computed as datatrove's
GopherRepetitionFilter does, but for the definitions of line, paragraph and word; docs/filters.md lists
the differences, tests/corpus/test_corpus_datatrove.py proves the list complete.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cpt.corpus.ngrams import ngram_characters


class Drop(NamedTuple):
    """Why a document was dropped: the rule, the document's value, and the bound that it broke."""

    rule: str
    value: float
    threshold: float


def rule_names(settings: dict[str, Any]) -> list[str]:
    """All rules in the order in which they are tried."""
    repetition = settings["repetition"]
    return [
        *("empty", "minimum_lines", "short_lines", "duplicate_lines", "duplicate_paragraphs"),
        *("duplicate_line_characters", "duplicate_paragraph_characters"),
        *(f"top_{n}_gram" for n, _ in by_length(repetition["top_ngram_character_share"])),
        *(f"duplicate_{n}_gram" for n, _ in by_length(repetition["duplicate_ngram_character_share"])),
    ]


def by_length(shares: dict[Any, float]) -> list[tuple[int, float]]:
    """The n-gram thresholds sorted by n; JSON has made strings of the keys."""
    return sorted((int(n), share) for n, share in shares.items())


def lines_of(text: str) -> list[str]:
    """The lines that hold more than white space, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
    """What blank lines separate, stripped."""
    return [part.strip() for part in re.split(r"\n\s*\n", text.strip())]


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts equal an earlier one, and how many characters these have."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        seen.add(part)
    return count, characters


def _values(text: str, lines: list[str], settings: dict[str, Any]) -> Iterator[Drop]:
    """Value and bound of each rule in the order of `rule_names`, computed when they are asked for."""
    length, repetition = settings["length"], settings["repetition"]
    yield Drop("short_lines", _short_share(lines, length), length["maximum_short_line_share"])
    parts = {"line": lines, "paragraph": paragraphs_of(text)}
    found = {kind: duplicates(parts[kind]) for kind in parts}
    for kind, (count, _) in found.items():
        yield Drop(f"duplicate_{kind}s", count / len(parts[kind]), repetition[f"duplicate_{kind}_share"])
    size = len(text)
    for kind, (_, characters) in found.items():
        threshold = repetition[f"duplicate_{kind}_character_share"]
        yield Drop(f"duplicate_{kind}_characters", characters / size, threshold)
    top = dict(by_length(repetition["top_ngram_character_share"]))
    duplicate = dict(by_length(repetition["duplicate_ngram_character_share"]))
    tops, repeated = ngram_characters(text, top, duplicate)
    for n, threshold in top.items():
        yield Drop(f"top_{n}_gram", tops[n] / size, threshold)
    for n, threshold in duplicate.items():
        yield Drop(f"duplicate_{n}_gram", repeated[n] / size, threshold)


def _short_share(lines: list[str], length: dict[str, Any]) -> float:
    short = length["short_line_characters"]
    return sum([len(line) <= short for line in lines]) / len(lines)


def check(text: str | None, settings: dict[str, Any]) -> Drop | None:
    """The first rule that a document breaks, or None; `settings` are the config's `filters`.

    empty: no text, or only white space. minimum_lines: fewer non-blank lines than `minimum_lines`.
    short_lines: share of the non-blank lines with at most `short_line_characters` characters.
    duplicate_*: share of the lines (paragraphs) that equal an earlier one, and of all characters that
    stand in them. top_n_gram, duplicate_n_gram: see `ngram_characters`, as a share of all characters. A
    document is dropped when a share is over its maximum.
    """
    if text is None or not text.strip():
        return Drop("empty", 0, 1)
    lines = lines_of(text)
    minimum = settings["length"]["minimum_lines"]
    if len(lines) < minimum:
        return Drop("minimum_lines", len(lines), minimum)
    for drop in _values(text, lines, settings):
        if drop.value > drop.threshold:
            return drop
    return None
