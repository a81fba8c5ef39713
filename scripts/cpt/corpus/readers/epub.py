"""E-books."""

import posixpath
from urllib.parse import unquote
from zipfile import BadZipFile

from cpt.corpus.readers.archive import members_of
from cpt.corpus.readers.base import Reader, Work
from cpt.corpus.readers.web import Walk, html_text
from cpt.errors import UserError

CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


class EpubReader(Reader):
    """Books: the pages of the spine in its order, without the table of contents."""

    format, endings, kinds = "epub", (".epub",), ("EPUB", "Zip")

    def read(self, content: bytes) -> Work:
        """The book. Raises UserError if a page or the list of pages is missing, damaged or encrypted."""
        archive = members_of(content)
        names = set(archive.namelist())
        if CONTAINER not in names:
            raise UserError(f"it is a Zip archive without {CONTAINER}, so no EPUB; rename or remove it")
        if "META-INF/encryption.xml" in names and b"/font" not in archive.read("META-INF/encryption.xml"):
            raise UserError("its pages are encrypted; name a copy without protection")
        work = Work([])
        try:
            package = _first(archive.read(CONTAINER), "rootfile").get("full-path")
            work.title, pages = _spine(archive.read(package), posixpath.dirname(package))
            for page in pages:
                text, replaced = html_text(archive.read(page))
                walk = Walk(text)
                work.blocks += walk.blocks
                work.replaced += replaced
                work.without_text += [f"{page}, {figure}" for figure in walk.figures]
        except (KeyError, BadZipFile) as error:
            raise UserError(f"a part of it is missing or damaged ({error}); fetch it again") from None
        return work


def _root(content: bytes):
    from lxml import etree

    try:
        return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise UserError(f"what lists its pages isn't XML ({error}); fetch it again") from None


def _first(content: bytes, name: str):
    element = next(_root(content).iter(f"{{*}}{name}"), None)
    if element is None:
        raise UserError(f"what lists its pages has no {name}; fetch it again")
    return element


def _spine(content: bytes, folder: str) -> tuple[str, list[str]]:
    """The book's title, and the names of its pages in reading order."""
    package = _root(content)
    title = next((element.text or "" for element in package.iter("{*}title")), "")
    items = {item.get("id"): item for item in package.iter("{*}item")}
    pages = []
    for reference in package.iter("{*}itemref"):
        item = items.get(reference.get("idref"))
        if (
            item is not None
            and item.get("media-type") in _PAGES
            and "nav" not in (item.get("properties") or "")
        ):
            pages.append(posixpath.normpath(posixpath.join(folder, unquote(item.get("href")))))
    return " ".join(title.split()), list(dict.fromkeys(pages))
