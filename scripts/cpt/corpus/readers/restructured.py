"""reStructuredText with Sphinx's extensions."""

import re

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work
from cpt.corpus.readers.formulas import raised
from cpt.corpus.readers.rst_tables import split_tables
from cpt.corpus.reflow import reflow, strip_markup

# Directives whose argument is kept as text: signatures, options, titles.
_DESCRIBED = re.compile(
    r"^(\s*)\.\. (?:[\w-]+:)?(?:\w*function|\w*method|class|data|member|attribute|macro|type|exception"
    r"|describe|object|option|cmdoption|envvar|confval|property|decorator|struct|enum|enumerator|var|rubric|centered"
    r"|topic|admonition|sidebar|program|table|csv-table|list-table):: *(\S.*)$",
    re.MULTILINE,
)
_FIGURE = re.compile(r"^\s*\.\. (?:\|[^|]+\| )?(?:image|figure):: *(\S+)((?:\n[ \t]+:\w+:.*)*)", re.MULTILINE)
_OPTIONS = re.compile(r"^(\s*\.\. (?:\|[^|]+\| )?[\w:-]+::.*)(?:\n[ \t]+:[\w-]+:.*)+", re.MULTILINE)
_CITED = re.compile(r"^(\s*\.\. \[[^\]]+\])\n\s+(?=\S)", re.MULTILINE)
_SCRIPT = re.compile(r":(sub|sup):`([^`]*)`")
# Comments, and directives whose lines aren't text: page names, index entries, raw HTML and so on.
_ASIDE = re.compile(
    r"(\s*)\.\.(?: (?:toctree|index|raw|meta|contents|include|literalinclude|autosummary|highlight|image)::.*"
    r"| (?![\[_|]|[\w:+.-]+::).*|\s*)$"
)
_RULE = re.compile(r"([!-/:-@[-`{-~])\1*")


class RestructuredReader(Reader):
    """Prose without markup, one line per paragraph; code and examples keep their lines, tables their rows."""

    format, endings = "rst", (".rst", ".rest")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't UTF-8 (or UTF-16 or UTF-32, with a byte-order mark)."""
        text, replaced = text_of(content)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        figures = [f"figure {name}" for name, options in _FIGURE.findall(text) if ":alt:" not in options]
        text = _drop_asides(_CITED.sub(r"\1 ", _OPTIONS.sub(r"\1", text.expandtabs())))
        text = _SCRIPT.sub(lambda match: raised(match[2], below=match[1] == "sub"), text)
        blocks: list[Block] = []
        for title, level, body in _sections(text):
            if title:
                blocks.append(Block(reflow(title, page=True), level))
            for rows, prose in split_tables(body):
                block_text = "\n".join(strip_markup(row, page=True) for row in rows)
                if block_text := block_text or reflow(_DESCRIBED.sub(r"\1\2\n", prose), page=True):
                    blocks.append(Block(block_text))
        return Work(blocks, next((block.text for block in blocks if block.level), ""), figures, replaced)


def _drop_asides(text: str) -> str:
    """Drop comments and directives without text, with everything indented below them."""
    kept: list[str] = []
    outside = -1  # inside a dropped part: the largest indentation that ends it
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if outside >= 0 and (not line.strip() or indent > outside):
            kept.append("") if not line.strip() else None
            continue
        aside = _ASIDE.match(line)
        outside = len(aside[1]) if aside else -1
        if not aside:
            kept.append(line)
    return "\n".join(kept)


def _sections(text: str) -> list[tuple[str, int, str]]:
    """Each heading, its level, and the text below it; levels follow the order in which underlines appear."""
    lines = text.split("\n")
    ranks: dict[tuple[str, bool], int] = {}
    sections: list[tuple[str, int, list[str]]] = [("", 0, [])]
    number = 0
    while number < len(lines):
        over, title, under = (lines[n].rstrip() if n < len(lines) else "" for n in range(number, number + 3))
        before = number == 0 or not lines[number - 1].strip()
        if before and _rules(over, title.strip()) and over == under and title.strip():
            key, skipped, heading = (over[0], True), 3, title.strip()
        elif (
            before
            and over.strip()
            and not over[0].isspace()
            and _rules(title, over)
            and not _rules(over, over)
        ):
            key, skipped, heading = (title[0], False), 2, over
        else:
            sections[-1][2].append(lines[number])
            number += 1
            continue
        sections.append((heading, ranks.setdefault(key, len(ranks) + 1), []))
        number += skipped
    return [(heading, level, "\n".join(body)) for heading, level, body in sections]


def _rules(line: str, title: str) -> bool:
    """Whether a line is a title's rule: one sign repeated, at most one shorter than the title."""
    return len(line) >= 3 and bool(_RULE.fullmatch(line)) and len(line) >= min(len(title), 80) - 1
