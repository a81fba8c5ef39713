"""reStructuredText, as Sphinx extends it."""

import re

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work
from cpt.corpus.reflow import reflow

# Directives whose argument is text: signatures, options, titles.
_DESCRIBED = re.compile(
    r"^(\s*)\.\. (?:[\w-]+:)?(?:\w*function|\w*method|class|data|member|attribute|macro|type|exception"
    r"|describe|object|option|cmdoption|envvar|confval|property|decorator|struct|enum|enumerator|var|rubric|centered"
    r"|topic|admonition|sidebar|program):: *(\S.*)$",
    re.MULTILINE,
)
_FIGURE = re.compile(r"^\s*\.\. (?:\|[^|]+\| )?(?:image|figure):: *(\S+)((?:\n[ \t]+:\w+:.*)*)", re.MULTILINE)
_RULE = re.compile(r"([!-/:-@[-`{-~])\1*")


class RestructuredReader(Reader):
    """Prose without markup, one line per paragraph; code, examples and tables keep their lines."""

    format, endings = "rst", (".rst", ".rest")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't UTF-8 (or UTF-16 or UTF-32, with a byte-order mark)."""
        text, replaced = text_of(content)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        figures = [f"figure {name}" for name, options in _FIGURE.findall(text) if ":alt:" not in options]
        text = _DESCRIBED.sub(r"\1\2\n", text)
        blocks: list[Block] = []
        for title, level, body in _sections(text.expandtabs()):
            if title:
                blocks.append(Block(reflow(title), level))
            if body := reflow(body):
                blocks.append(Block(body))
        return Work(blocks, next((block.text for block in blocks if block.level), ""), figures, replaced)


def _sections(text: str) -> list[tuple[str, int, str]]:
    """Heading, its level, and the text below it; the order of the signs that mark headings gives levels."""
    lines = text.split("\n")
    ranks: dict[tuple[str, bool], int] = {}
    found: list[tuple[str, int, list[str]]] = [("", 0, [])]
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
            found[-1][2].append(lines[number])
            number += 1
            continue
        found.append((heading, ranks.setdefault(key, len(ranks) + 1), []))
        number += skipped
    return [(heading, level, "\n".join(body)) for heading, level, body in found]


def _rules(line: str, title: str) -> bool:
    """Whether a line is a rule that marks a title: one sign all along, as long as the title (or nearly)."""
    return len(line) >= 3 and bool(_RULE.fullmatch(line)) and len(line) >= min(len(title), 80) - 1
