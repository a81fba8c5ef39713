"""The base of readers: a reader turns the content of one file into a work made of blocks."""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from cpt.errors import UserError

_KINDS = {
    "PDF": rb"(?s).{0,1024}?%PDF-\d",
    "EPUB": rb"PK\x03\x04.{26}mimetypeapplication/epub\+zip",
    "Zip": rb"PK\x03\x04",
    "Word before 2007": rb"\xd0\xcf\x11\xe0",
    "RTF": rb"\{\\rtf",
    "Parquet": rb"PAR1",
    "an image": rb"\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*",
    "a program": rb"\x7fELF|MZ\x90",
    "HTML": rb"(?is)\s*(<\?xml[^>]*>|<!--.*?-->|\s)*<(!doctype html|html|head|body)\b",
}


class Block(NamedTuple):
    """A heading (one line), or the lines of a paragraph, a list, a table or a piece of code."""

    text: str
    level: int = 0  # of a heading, from 1 on; 0: no heading


@dataclass
class Work:
    """A file's content, in reading order."""

    blocks: list[Block]
    title: str = ""
    without_text: list[str] = field(default_factory=list)  # pages and figures, such as "page 3"
    replaced: int = 0  # characters that are invalid in the file's encoding
    between: str = "\n\n"  # separates blocks


class Reader:
    """A format. Subclasses import their library in `read`, since every start imports all readers."""

    format: str
    endings: tuple[str, ...]
    kinds: tuple[str, ...] = ()  # allowed results of `kind_of`; empty: only text, of no kind

    def reads(self, name: str) -> bool:
        """Whether a file has this format, by its name in lower case without the ending of a compressor."""
        return name.endswith(self.endings)

    def read(self, content: bytes) -> Work:
        """The work in a file's content. Raises UserError, without the file's name, if it can't be read."""
        raise NotImplementedError

    def checked(self, content: bytes) -> Work:
        """As `read`; UserError, naming the content's kind, if it isn't what the file's name says."""
        if self.kinds and not content:
            raise UserError("it is empty; fetch or make it again, or remove it")
        kind = kind_of(content)
        if kind not in self.kinds and (kind or self.kinds):
            problem = f"its content is {kind}, not" if kind else "its content isn't"
            raise UserError(f"{problem} {self.format.upper()}; rename the file by what it is, or remove it")
        return self.read(content)


def kind_of(content: bytes) -> str | None:
    """The kind of a file by its first bytes; None if they show none (mostly text)."""
    beginning = content[:4096]
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, beginning, re.DOTALL)), None)
