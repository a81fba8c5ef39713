"""Turns a reader's work into documents: one, or several cut at its own headings if it is long."""

from cpt.corpus.encodings import valid_text
from cpt.corpus.readers.base import Block, Work

LONGEST = 20_000  # characters: a work up to this is one document
SHORTEST = 500  # a part below this stays with the part that follows
# Soft hyphens are invisible; ligatures are only drawn forms of letters.
_DRAWN = {0xAD: "", 0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl"}


def cut(work: Work) -> list[tuple[str, str]]:
    """The documents of a work as (title, text), in order; none if it has no blocks.

    A work longer than `LONGEST` is cut at each heading of its highest level, and parts that are still longer
    at those of the next level. A part without headings stays whole. Blocks, and so lines, are never cut.
    """
    parts = _parts(work.blocks, work.title)
    texts = [(title, work.between.join(block.text for block in blocks)) for title, blocks in parts]
    return [(_written(title), _written(text)) for title, text in texts]


def _written(text: str) -> str:
    return valid_text(text if text.isascii() else text.translate(_DRAWN))[0]


def _parts(blocks: list[Block], title: str) -> list[tuple[str, list[Block]]]:
    if not blocks:
        return []
    if _size(blocks) > LONGEST:
        for level in sorted({block.level for block in blocks[1:] if block.level}):
            sections = _sections(blocks, title, level)
            if len(sections) > 1:
                return [part for name, section in sections for part in _parts(section, name)]
    return [(title, blocks)]


def _sections(blocks: list[Block], title: str, level: int) -> list[tuple[str, list[Block]]]:
    """The parts between headings of `level` or higher levels, each with its first heading as the title."""
    sections: list[tuple[str, list[Block]]] = [(title, [])]
    size, only_headings = 0, True
    for block in blocks:
        if 0 < block.level <= level:
            name = block.text.split("\n")[0].strip(" #*")
            if size >= SHORTEST:
                sections.append((name, []))
                size, only_headings = 0, True
            elif only_headings:
                sections[-1] = (name, sections[-1][1])
        else:
            only_headings = False
        sections[-1][1].append(block)
        size += len(block.text)
    return sections


def _size(blocks: list[Block]) -> int:
    return sum(len(block.text) for block in blocks)
