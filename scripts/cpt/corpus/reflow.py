"""Converts hard-wrapped reStructuredText to plain text with one line per paragraph.

This isn't a full parser. It unwraps prose and removes markup; examples, code and tables keep their lines;
headings lose their underlines; one blank line separates paragraphs.
"""

import itertools
import re

# A line shorter than this wasn't broken by wrapping (the usual width is 72 to 79 characters).
FULL_LINE = 45
CODE = {
    "code", "code-block", "sourcecode", "math", "plot", "parsed-literal", "testcode", "doctest", "ipython",
}  # fmt: skip
ADMONITIONS = {
    "note": "Note: ",
    "warning": "Warning: ",
    "tip": "Tip: ",
    "important": "Important: ",
    "seealso": "See also: ",
    "versionadded": "Added in version ",
    "versionchanged": "Changed in version ",
    "deprecated": "Deprecated since version ",
    "math": "",
}
_UNDERLINE = re.compile(r"([-=~^\"`*+#.:_])\1{2,}")
_PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}")  # for text that the package fills in at import
_DIRECTIVE = re.compile(r"\.\. ([\w:-]+?):: ?(.*)")
_REFERENCE = re.compile(r"\.\. (\[\S+\] .*)")
_LIST_ITEM = re.compile(r"[-*•] |\(?(?:\d{1,3}|[a-zA-Z#])[.)] ")
_FIELD = re.compile(r":(?:\w+ ?)[^:`]*: |[\w*][\w*, .]*? : |[\w*][\w*, ]* :$")
_TABLE = re.compile(r"[|+]|={2,} +={2,}|-{2,} +-{2,}")
_CODE_LINE = re.compile(
    r"(?:(?:def|class|if|elif|for|while|with|try|else|match|case)\b.*:(?:\s*#.*)?$"
    r"|(?:import|return|from|del|raise) \S+|@\w|[\w.\[\]]+(?:, [\w.]+)* [-+*/|&]?= \S|[\w.]+\(.*\)$|.* ::= )"
)
_INLINE = (
    (re.compile(r":math:`([^`]*)`"), r"\1"),
    (re.compile(r":[\w:+-]+:`~(?:[^`<]*\.)?([^`.<>]+)`"), r"\1"),  # :func:`~numpy.mean` -> mean
    (re.compile(r":[\w:+-]+:`!?([^`<]*?)\s*(?:<[^`]*>)?`"), r"\1"),  # :ref:`the page <label>` -> the page
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`([^`<]*?)\s*<[^`>]*>`__?"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"(\[\w+\])_"), r"\1"),
)


# Markup of pages of reStructuredText; in docstrings it may be literal, such as *args.
_EMPHASIS = (
    (re.compile(r"(?<=[^\W_])__?(?=[\s.,;:!?)]|$)"), ""),  # a reference by a word
    (re.compile(r"(?<![\w*\\])\*\*(?=\S)(.+?)(?<=[^\s\\])\*\*(?!\w)"), r"\1"),
    (re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*]+?)(?<=[^\s\\])\*(?![\w*])"), r"\1"),
    (re.compile(r"\\(?:\s|(?=\W))"), ""),
)
_LITERAL = re.compile(r"``(.+?)``(?!`)")


def strip_markup(text: str, page: bool = False) -> str:
    """Prose without roles, backquotes and link targets; for a `page` also without emphasis and escapes."""
    parts = _LITERAL.split(text) if page else [text]
    for number in range(0, len(parts), 2):  # the odd parts are literals
        for pattern, replacement in (*_INLINE, *_EMPHASIS) if page else _INLINE:
            parts[number] = pattern.sub(replacement, parts[number])
    return "".join(parts)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _looks_like_code(lines: list[str]) -> bool:
    """Whether any line up to the next blank one looks like a statement or a grammar rule."""
    return any(_CODE_LINE.match(line.lstrip()) for line in itertools.takewhile(str.strip, lines))


def reflow(text: str, page: bool = False) -> str:
    """Unwrap `text` (a cleaned docstring, or part of a `page`): one line per paragraph, list item and field.

    Lines are joined where they look wrapped: same indentation as the line before (or a list item's
    hanging indentation), and the line before is at least `FULL_LINE` characters long.
    """
    return _Reflow(page).run(text)


class _Reflow:
    def __init__(self, page: bool) -> None:
        self.page = page
        self.lines: list[str] = []
        self.paragraph: list[str] = []
        self.indent: int | None = 0  # of the paragraph's continuation lines; None: the next line sets it
        self.block: int | None = None  # indentation that lines of the code exceed; None: not in code
        self.margin: int | None = None  # indentation of the code's first line
        self.left = 0  # indentation of the last line of prose

    def run(self, text: str) -> str:
        example, lines = False, text.expandtabs().split("\n")
        for number, line in enumerate(lines):
            bare = line.strip()
            if self.block is not None and bare and _indent(line) <= self.block:
                self.block = self.margin = None
            begins = bare and self.block is None and not (number and lines[number - 1].strip())
            if begins and _indent(line) > self.left and _looks_like_code(lines[number:]):
                self.block, self.margin = self.left, None
            if not bare:
                self.end_paragraph()
                self.blank()
                self.margin = None if example else self.margin
                example = False
            elif self.block is not None or example or bare.startswith((">>>", "...", "$ ", "In [")):
                self.end_paragraph()
                example = example or bare.startswith(">>>")
                self.code(line.rstrip())
            elif _UNDERLINE.fullmatch(bare) or _PLACEHOLDER.fullmatch(bare):
                self.end_paragraph()
            elif bare.startswith(".. "):
                self.end_paragraph()
                self.explicit(bare, _indent(line))
            elif re.fullmatch(r":[\w-]+:( \S*)?", bare) and not self.paragraph:
                continue  # an option of a directive
            elif _TABLE.match(bare):
                self.end_paragraph()
                self.lines.append(
                    strip_markup(bare.removeprefix("|").strip(), page=True) if self.page else bare
                )
            else:
                self.prose(line, bare)
        self.end_paragraph()
        return "\n".join(self.lines).strip("\n")

    def code(self, line: str) -> None:
        """Add a line of code, indented by four spaces, or of an example, not indented."""
        if self.margin is None:
            self.margin = _indent(line)
        kept = line[min(self.margin, _indent(line)) :]
        self.lines.append(kept if self.block is None else f"    {kept}")

    def prose(self, line: str, bare: str) -> None:
        indent, item = _indent(line), _LIST_ITEM.match(bare)
        hanging = self.indent in (None, indent)
        wrapped = self.paragraph and hanging and len(self.paragraph[-1]) >= FULL_LINE
        if item or _FIELD.match(bare) or not wrapped:
            self.end_paragraph()
            self.indent = None if item else indent
        else:
            self.indent = indent
        self.margin, self.left = None, indent
        self.paragraph.append(bare)
        if bare.endswith("::"):
            self.block = indent
            self.paragraph[-1] = "" if bare == "::" else bare[:-1]
            self.end_paragraph()

    def explicit(self, bare: str, indent: int) -> None:
        """Handle what begins with two dots and a space: a directive, reference, target or comment."""
        directive, reference = _DIRECTIVE.match(bare), _REFERENCE.match(bare)
        if reference:
            self.paragraph, self.indent = [reference[1]], None
        elif directive:
            name, argument = directive[1].lower(), directive[2].strip()
            if name in CODE:
                self.block, self.margin = indent, None
            if name in ADMONITIONS:
                start = ADMONITIONS[name] + argument
                self.paragraph, self.indent = [start.strip()] if start.strip(": ") else [], None

    def end_paragraph(self) -> None:
        text = strip_markup(" ".join(part for part in self.paragraph if part), self.page).strip()
        text = " ".join(text.split()) if self.page else text
        if text:
            self.lines.append(text)
        self.paragraph = []

    def blank(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")
