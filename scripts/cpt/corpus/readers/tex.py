"""LaTeX."""

import re
from collections.abc import Iterator

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work

_SECTIONS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
_HEADING = re.compile(rf"\\({'|'.join(_SECTIONS)}|title)\*?\s*(?:\[[^\]]*\]\s*)?(?=\{{)")
_CODE = re.compile(
    r"\\begin\{(verbatim\*?|[vV]erbatim|lstlisting|minted|alltt|Highlighting)\}(?:\[[^\]]*\])?"
    r"(?:\{[^}]*\})?[ \t]*\n?(.*?)\n?[ \t]*\\end\{\1\}",
    re.DOTALL,
)
_TABLE = re.compile(r"\\begin\{(tabular[x*]?|longtable|tabulary)\}(.*?)\\end\{\1\}", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n?[ \t]*")
_ENCODING = re.compile(rb"\\usepackage\[([\w-]+)\]\{inputenc\}")
_ENCODINGS = {"latin1": "iso-8859-1", "latin9": "iso-8859-15", "ansinew": "cp1252", "applemac": "mac-roman"}
_KEPT = "\ue000"  # stands for code that was taken out of the text


class TexReader(Reader):
    """The text between \\begin{document} and its end; formulas stay as they are written."""

    format, endings = "tex", (".tex", ".latex", ".ltx")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't in the encoding that it declares, or UTF-8."""
        from pylatexenc import latex2text

        declared = _ENCODING.search(content)
        name = declared[1].decode().lower() if declared else None
        text, replaced = text_of(content, _ENCODINGS.get(name, name and name.replace("utf8x", "utf8")))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        title = _argument(text, found.end()) if (found := re.search(r"\\title\s*(?=\{)", text)) else ""
        if body := re.search(r"\\begin\{document\}(.*?)(?:\\end\{document\}|$)", text, re.DOTALL):
            text = body[1].replace("\\maketitle", "").replace("\\tableofcontents", "")
        plain = latex2text.LatexNodes2Text(
            math_mode="verbatim", keep_comments=False, strict_latex_spaces=True
        )
        code: list[str] = []

        def keep(match: re.Match) -> str:
            lines = match[2].strip("\n").split("\n")
            if match[1] == "Highlighting":  # pandoc's, with macros for colours
                lines = [plain.latex_to_text(line) for line in lines]
            code.append("\n".join(lines))
            return f"\n\n{_KEPT}{len(code) - 1}{_KEPT}\n\n"

        text = _COMMENT.sub(r"\1", _CODE.sub(keep, text))
        work = Work([], " ".join(plain.latex_to_text(title).split()), replaced=replaced)
        if work.title:
            work.blocks.append(Block(work.title, 1))
        for level, part in _parts(text):
            for piece in re.split(r"\n[ \t]*\n", part):
                if found := re.fullmatch(rf"\s*{_KEPT}(\d+){_KEPT}\s*", piece):
                    work.blocks.append(Block(code[int(found[1])]))
                elif "\\begin{tabular" in piece or "\\begin{longtable" in piece:
                    work.blocks += [Block(rows) for rows in _table(piece, plain.latex_to_text) if rows]
                elif found := _words(plain.latex_to_text(piece)):
                    work.blocks.append(Block(found, level))
        work.without_text = [
            f"figure {name}" for name in re.findall(r"\\includegraphics[^{]*\{([^}]*)\}", text)
        ]
        return work


def _words(text: str) -> str:
    """A paragraph or list without line breaks; each item of a list is a line."""
    lines = re.split(r"\n(?=\s*(?:\* |\d+\. |- ))", text.strip())
    return "\n".join(re.sub(r"^\* ", "- ", " ".join(line.split())) for line in lines if line.strip())


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Text between headings (level 0), and headings."""
    end = 0
    for match in _HEADING.finditer(text):
        if match.start() < end or match[1] == "title":
            continue
        yield 0, text[end : match.start()]
        argument = _argument(text, match.end())
        yield _SECTIONS.index(match[1]) + 2, " ".join(argument.split())
        end = match.end() + len(argument) + 2
    yield 0, text[end:]


def _argument(text: str, start: int) -> str:
    """What is between the brace at `start` and the one that closes it."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if not depth:
                return text[start + 1 : place]
    return text[start + 1 :]


def _table(piece: str, to_text) -> Iterator[str]:
    """The text around a table, and its rows as lines."""
    end = 0
    for match in _TABLE.finditer(piece):
        yield _words(to_text(piece[end : match.start()]))
        end = match.end()
        body = match[2][len(_argument(match[2], match[2].find("{"))) + match[2].find("{") + 2 :]
        if match[1] in ("tabularx", "tabular*", "tabulary"):  # the width comes before the columns
            body = body[len(_argument(body, body.find("{"))) + body.find("{") + 2 :]
        body = re.sub(
            r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfoot|noalign\{\}|cline\{[^}]*\})", "", body
        )
        rows = re.split(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline", body)
        cells = [[" ".join(to_text(cell).split()) for cell in re.split(r"(?<!\\)&", row)] for row in rows]
        yield "\n".join(" | ".join(row).strip() for row in cells if any(row))
    yield _words(to_text(piece[end:]))
