"""Manual pages: roff with the macros of man(7) or mdoc(7)."""

import re

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work
from cpt.corpus.readers.roff import Page
from cpt.errors import UserError

_ENDING = re.compile(r"\.[1-9](?!z$|gp$|g2$|ds$|mf$|st$)[a-z]{0,10}$")  # not 7z, 3gp and so on
_BEGINS = re.compile(r"""(?:\s*\\(?:"[^\n]*)?\n)*\s*['.]\s*(?:\\"|[A-Za-z]{1,3}\b|$)""", re.MULTILINE)


class ManReader(Reader):
    """Manual pages of any section; their ending is a digit, with letters in some (`.3pm`)."""

    format, endings = "man", tuple(f".{section}" for section in range(1, 10))

    def reads(self, name: str) -> bool:
        """Whether a name ends like a manual page's."""
        return bool(_ENDING.search(name))

    def read(self, content: bytes) -> Work:
        """The page; no blocks if it only names another page. Raises UserError if it isn't roff."""
        text, replaced = text_of(content, "iso-8859-1" if not _is_utf8(content) else None)
        if not _BEGINS.match(text):
            raise UserError("it doesn't begin like a manual page; rename or remove it")
        page = Page()
        page.run(text.replace("\r\n", "\n").split("\n"))
        page.end()
        return Work([Block(text, level) for text, level in page.blocks], page.title, replaced=replaced)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
