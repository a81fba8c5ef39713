"""LaTeX."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from cpt.corpus.encodings import text_of
from cpt.corpus.readers.base import Block, Reader, Work
from cpt.corpus.readers.formulas import raised

if TYPE_CHECKING:
    from pylatexenc.latex2text import LatexNodes2Text
    from pylatexenc.latexwalker import LatexMacroNode

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
_CAPTION = re.compile(r"\\caption\*?(?:\[[^\]]*\])?(?=\{)")
_REPEATED = re.compile(r"\\endfirsthead.*?\\endhead|(?<=\\endhead).*\\end(?:last)?foot", re.DOTALL)
_VERB = re.compile(r"\\(?:verb\*?|lstinline(?:\[[^\]]*\])?)([^\w\s{*])(.*?)\1")
_LINE_BREAK = re.compile(r"\\\\\*?(?:\[[^\]]*\])?|\\newline\b")
_DISPLAYED = re.compile(r"\\begin\{|\\\[|\$\$")
_TARGET = re.compile(r"\\hypertarget\{[^}]*\}\{(%\s*)?(?=\\)")  # pandoc writes it before headings
# Macros that pylatexenc doesn't know or loses: their arguments, and which of these is text (0: none).
_MACROS = {
    "href": ("{{", 2),
    "hyperref": ("[{", 2),
    "url": ("{", 1),
    "nolinkurl": ("{", 1),
    "cite": ("*[[{", 4),
}
_MACROS |= {
    "multicolumn": ("{{{", 3),
    "multirow": ("{[{{", 4),
    "parbox": ("[{{", 3),
    "foreignlanguage": ("{{", 2),
}
_MACROS |= dict.fromkeys(("texttt", "textsf", "textmd", "textup", "mbox", "keywords"), ("{", 1))
_MACROS |= {
    "SI": ("[{{", 0),
    "index": ("{", 0),
    "todo": ("[{", 0),
    "includegraphics": ("*[{", 0),
    "rule": ("[{{", 0),
}
_MACROS |= {"bibitem": ("[{", 0), "pageref": ("{", 0), "nameref": ("{", 0)}
_ENVIRONMENTS = {"minipage": "[{", "multicols": "{", "thebibliography": "{", "wrapfigure": "[{{"}
_SIGNS = {"textless": "<", "textgreater": ">", "textbar": "|", "textunderscore": "_", "textbraceleft": "{"}
_SIGNS |= {"textbraceright": "}", "S": "§", "P": "¶", "TeX": "TeX", "LaTeX": "LaTeX", "LaTeXe": "LaTeX2e"}
_SIGNS |= {
    "BibTeX": "BibTeX",
    "textquotedbl": '"',
    "slash": "/",
    "pounds": "£",
    "euro": "€",
    "copyright": "©",
}
_SIGNS |= {"ddag": "‡", "yen": "¥", "og": "«", "fg": "»", "dq": '"', "quad": " ", "qquad": " "}
_KEPT, _BREAK, _INDENT = "\ue000", "\ue001", "\ue002"  # stand-ins for code, a line break, and two spaces
_DEFINED = re.compile(r"\\(?:re)?newcommand\*?\s*\{?\\([A-Za-z]+)\}?\s*(?=\{)|\\def\s*\\([A-Za-z]+)\s*(?=\{)")
_USED = re.compile(r"(?<!newcommand\{)(?<!\\def)\\([A-Za-z]+)(?:\{\}|(?![A-Za-z]))")
_NOTE_OR_BLANK = re.compile(r"(\\footnote\s*(?=\{))|\n[ \t]*\n\s*")
_SPACES = re.compile(r"[ \t]{2,}")
_BLANK = re.compile(r"\n[ \t]*\n\s*")
_LIST = re.compile(
    r"\s*\\begin\{(?P<begin>itemize|enumerate|description)\*?\}(?:\[[^\]]*\])?\s*(?:\\(?:tightlist|def\\\w+\{[^\n]*\})\s*)*"
    r"|\s*\\end\{(?P<end>itemize|enumerate|description)\*?\}"
    r"|\s*\\item\b\s*(?:\[(?P<label>(?:[^\[\]{}]|\{[^{}]*\})*)\])?\s*"
)


class TexReader(Reader):
    """The text between \\begin{document} and its end; formulas stay in LaTeX."""

    format, endings = "tex", (".tex", ".latex", ".ltx")

    def read(self, content: bytes) -> Work:
        """The text. Raises UserError if it isn't in the encoding that it declares, or UTF-8."""
        declared = _ENCODING.search(content)
        name = declared[1].decode().lower() if declared else None
        text, replaced = text_of(content, _ENCODINGS.get(name, name and name.replace("utf8x", "utf8")))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        title = _argument(text, macro.end()) if (macro := re.search(r"\\title\s*(?=\{)", text)) else ""
        names = _own_macros(text)
        if body := re.search(r"\\begin\{document\}(.*?)(?:\\end\{document\}|$)", text, re.DOTALL):
            text = body[1].replace("\\maketitle", "").replace("\\tableofcontents", "")
        plain = _Plain()
        code: list[str] = []

        def keep(match: re.Match) -> str:
            lines = match[2].strip("\n").split("\n")
            if match[1] == "Highlighting":  # pandoc's, with macros for syntax highlighting
                lines = [plain.text(line) for line in lines]
            code.append("\n".join(lines))
            return f"\n\n{_KEPT}{len(code) - 1}{_KEPT}\n\n"

        def keep_inline(match: re.Match) -> str:
            code.append(match[2])
            return f"{_KEPT}{len(code) - 1}{_KEPT}"

        text = _COMMENT.sub(r"\1", _VERB.sub(keep_inline, _CODE.sub(keep, text)))
        text = _BLANK.sub("\n\n", _SPACES.sub(" ", text))
        text = _move_notes(_mark_items(_TARGET.sub("", _USED.sub(partial(_meaning, names), text))))
        work = Work([], " ".join(plain.text(title).split()), replaced=replaced)
        if work.title:
            work.blocks.append(Block(work.title, 1))
        for level, part in _parts(text):
            for piece in re.split(r"\n[ \t]*\n", part):
                if "\\begin{tabular" in piece or "\\begin{longtable" in piece:
                    texts = list(_table(piece, plain.text))
                else:
                    lines = piece if _DISPLAYED.search(piece) else _LINE_BREAK.sub(_BREAK, piece)
                    texts = [_words(plain.text(lines))]
                for words in filter(None, texts):
                    whole = re.sub(rf"{_KEPT}(\d+){_KEPT}", lambda kept: code[int(kept[1])], words)
                    work.blocks.append(Block(whole, level))
        work.without_text = [
            f"figure {name}" for name in re.findall(r"\\includegraphics[^{]*\{([^}]*)\}", text)
        ]
        return work


class _Plain:
    """Converts LaTeX to text by pylatexenc, with macros that it doesn't know."""

    def __init__(self) -> None:
        from pylatexenc import latex2text, latexwalker, macrospec

        spec = latex2text.MacroTextSpec
        texts = [spec(name, f"%({number})s" if number else "") for name, (_, number) in _MACROS.items()]
        texts += [spec(name, sign) for name, sign in _SIGNS.items()]
        texts += [spec("SI", "%(2)s %(3)s"), spec("cite", "[%(4)s]")]
        for name, below in (("textsuperscript", False), ("textsubscript", True)):
            texts.append(spec(name, partial(_raised, below=below)))
        self.arguments = latexwalker.get_default_latex_context_db()
        specs = {name: arguments for name, (arguments, _) in _MACROS.items()}
        specs |= {"textsuperscript": "{", "textsubscript": "{"}
        self.arguments.add_context_category(
            "own",
            [macrospec.std_macro(name, each) for name, each in specs.items()],
            [macrospec.std_environment(name, each) for name, each in _ENVIRONMENTS.items()],
            prepend=True,
        )
        context = latex2text.get_default_latex_context_db()
        context.add_context_category("own", texts, prepend=True)
        self.plain = latex2text.LatexNodes2Text(
            latex_context=context, math_mode="verbatim", keep_comments=False, strict_latex_spaces=True
        )

    def text(self, latex: str) -> str:
        """The text of a piece of LaTeX."""
        return self.plain.latex_to_text(latex, latex_context=self.arguments)


def _raised(node: "LatexMacroNode", l2tobj: "LatexNodes2Text", below: bool) -> str:
    return raised(l2tobj.nodelist_to_text(node.nodeargd.argnlist), below)


def _own_macros(text: str) -> dict[str, str]:
    """The document's own macros without arguments: {name: meaning}, without recursive ones."""
    meanings = {match[1] or match[2]: _argument(text, match.end()) for match in _DEFINED.finditer(text)}
    return {name: meaning for name, meaning in meanings.items() if f"\\{name}" not in meaning}


def _meaning(names: dict[str, str], match: re.Match) -> str:
    return names.get(match[1], match[0])


def _move_notes(text: str) -> str:
    """Replace each footnote by [1], and put its text after its paragraph."""
    pieces: list[str] = []
    notes: list[str] = []  # of the paragraph so far
    place = number = 0
    for match in _NOTE_OR_BLANK.finditer(text):
        if match.start() < place:  # inside a note
            continue
        pieces.append(text[place : match.start()])
        place = match.end()
        if match[1]:
            number += 1
            note = _argument(text, place)
            place += len(note) + 2
            pieces.append(f"[{number}]")
            notes.append(f"\n\n[{number}] {_BLANK.sub(' ', note)}")
        else:
            pieces += [*notes, "\n\n"]
            notes.clear()
    return "".join([*pieces, text[place:], *notes])


def _mark_items(text: str) -> str:
    """Write each list item, at any depth and despite blank lines, as a line with a mark."""
    lists: list[tuple[str, int]] = []  # open lists, with their numbers of items

    def mark(match: re.Match) -> str:
        if match["begin"]:
            lists.append((match["begin"], 0))
            return "\n\n" if len(lists) == 1 else ""
        if match["end"]:
            if lists:
                lists.pop()
            return "" if lists else "\n\n"
        if not lists:
            return match[0]
        line = "\n\n" if match.string[: match.start()].endswith(_KEPT) else _BREAK
        kind, number = lists[-1]
        lists[-1] = kind, number + 1
        if (label := match["label"]) is not None and kind == "description":
            return f"\n\n{label}{_BREAK}"
        before = label or (f"{number + 1}." if kind == "enumerate" else "-")
        return f"{line}{_INDENT * min(len(lists) - 1, 8)}{before} "

    return _LIST.sub(mark, text)


def _words(text: str) -> str:
    """A paragraph as one line, or a list with one line per item."""
    lines = [" ".join(line.split()).replace(_INDENT, "  ") for line in text.split(_BREAK)]
    return "\n".join(line for line in lines if line.strip())


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yields (level, text) of headings, and of the text between them (level 0)."""
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
    """The text between the brace at `start` and the one that closes it."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if not depth:
                return text[start + 1 : place]
    return text[start + 1 :]


def _table(piece: str, to_text: Callable[[str], str]) -> Iterator[str]:
    """Yields a table's caption, then the text around it and its rows, one line per row."""
    end = 0
    if caption := _CAPTION.search(piece):
        yield _words(to_text(words := _argument(piece, caption.end())))
        stop = caption.end() + len(words) + 2
        piece = piece[: caption.start()] + piece[stop:].removeprefix("\\tabularnewline")
    for match in _TABLE.finditer(piece):
        yield _words(to_text(piece[end : match.start()]))
        end = match.end()
        body = match[2][len(_argument(match[2], match[2].find("{"))) + match[2].find("{") + 2 :]
        if match[1] in ("tabularx", "tabular*", "tabulary"):  # the width comes before the columns
            body = body[len(_argument(body, body.find("{"))) + body.find("{") + 2 :]
        body = _REPEATED.sub("", body)  # repeated heads and feet of its pages
        body = re.sub(
            r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfoot|noalign\{\}|cline\{[^}]*\})", "", body
        )
        rows = re.split(r"\\\\(?:\[[^\]]*\])?|\\tabularnewline", body)
        cells = [[" ".join(to_text(cell).split()) for cell in re.split(r"(?<!\\)&", row)] for row in rows]
        yield "\n".join(" | ".join(row).strip() for row in cells if any(row))
    yield _words(to_text(piece[end:]))
