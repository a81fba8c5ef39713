"""Word documents."""

import io
from zipfile import BadZipFile, ZipFile

from cpt.corpus.readers.archive import members_of
from cpt.corpus.readers.base import Reader, Work
from cpt.corpus.readers.formulas import formula_text
from cpt.corpus.readers.web import Walk
from cpt.errors import UserError

# The names of styles for code in Word, LibreOffice and pandoc.
_CODE = ("HTML Preformatted", "Source Code", "Code", "Plain Text", "Preformatted Text", "macro")
_STYLES = "\n".join(
    [
        *(f"p[style-name='{name}'] => pre:separator('\\n')" for name in _CODE),
        "p[style-name='Title'] => h1:fresh",
        "p[style-name='Subtitle'] => h2:fresh",
        "p[style-name='Definition Term'] => dl > dt:fresh",
        "p[style-name='Definition'] => dl > dd:fresh",
        "br[type='page'] => hr",
    ]
)


_TEXT = "word/document.xml"
_WORDS = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"


class WordReader(Reader):
    """Documents with headings, lists, tables and notes; page headers and footers are skipped."""

    format, endings, kinds = "docx", (".docx",), ("Zip",)

    def read(self, content: bytes) -> Work:
        """The document. Raises UserError if it is damaged, or an archive of another kind."""
        import mammoth
        from lxml.etree import XMLSyntaxError

        archive = members_of(content)
        if _TEXT not in archive.namelist():
            raise UserError("it is a Zip archive without word/document.xml, so no Word document; rename it")
        try:
            content = _write_out_formulas(archive, content)
            pictures = mammoth.images.img_element(lambda image: {"src": "", "alt": image.alt_text or ""})
            page = mammoth.convert_to_html(
                io.BytesIO(content), style_map=_STYLES, convert_image=pictures
            ).value
        except (KeyError, BadZipFile, ValueError, XMLSyntaxError) as error:
            raise UserError(f"it is damaged ({error}); save it again") from None
        walk = Walk(f"<body>{page}</body>")
        title = next((block.text for block in walk.blocks if block.level), "")
        return Work(walk.blocks, title, walk.figures)


def _write_out_formulas(archive: ZipFile, content: bytes) -> bytes:
    """The file's content with formulas replaced by text; mammoth would skip them."""
    from lxml import etree

    text = archive.read(_TEXT)
    if b"oMath" not in text:
        return content
    tree = etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
    for formula in list(tree.iter(f"{_MATHS}oMath")):
        run = etree.Element(f"{_WORDS}r")
        etree.SubElement(run, f"{_WORDS}t").text = f" {formula_text(formula)} "
        formula.getparent().replace(formula, run)
    etree.strip_tags(tree, f"{_MATHS}oMathPara")
    output = io.BytesIO()
    with ZipFile(output, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, etree.tostring(tree) if name == _TEXT else archive.read(name))
    return output.getvalue()
