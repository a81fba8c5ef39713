"""Word's documents."""

import io
from zipfile import BadZipFile

from cpt.corpus.readers.archive import members_of
from cpt.corpus.readers.base import Reader, Work
from cpt.corpus.readers.web import Walk
from cpt.errors import UserError

# Styles that hold code, by the names that Word, LibreOffice and pandoc give them.
_CODE = ("HTML Preformatted", "Source Code", "Code", "Plain Text", "Preformatted Text", "macro")
_STYLES = "\n".join(
    [
        *(f"p[style-name='{name}'] => pre:separator('\\n')" for name in _CODE),
        "p[style-name='Title'] => h1:fresh",
        "p[style-name='Subtitle'] => h2:fresh",
        "br[type='page'] => hr",
    ]
)


class WordReader(Reader):
    """Documents with headings, lists, tables and notes; page headers and footers are skipped."""

    format, endings, kinds = "docx", (".docx",), ("Zip",)

    def read(self, content: bytes) -> Work:
        """The document. Raises UserError if it is damaged, or an archive of another kind."""
        import mammoth

        names = members_of(content).namelist()
        if "word/document.xml" not in names:
            raise UserError("it is a Zip archive without word/document.xml, so no Word document; rename it")
        try:
            pictures = mammoth.images.img_element(lambda image: {"src": "", "alt": image.alt_text or ""})
            page = mammoth.convert_to_html(
                io.BytesIO(content), style_map=_STYLES, convert_image=pictures
            ).value
        except (KeyError, BadZipFile, ValueError) as error:
            raise UserError(f"it is damaged ({error}); save it again") from None
        walk = Walk(f"<body>{page}</body>")
        title = next((block.text for block in walk.blocks if block.level), "")
        return Work(walk.blocks, title, walk.figures)
