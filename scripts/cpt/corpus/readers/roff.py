# ruff: noqa: RUF001, SIM905
"""Turns the part of roff that manual pages use into headings, paragraphs, lists, code and tables."""

import re

from cpt.corpus.readers.mdoc import Words, arguments


def pairs(words: str) -> dict[str, str]:
    """The mapping of alternating names and signs; the sign _ is the empty string."""
    tokens = words.split()
    return {name: sign.replace("_", "") for name, sign in zip(tokens[::2], tokens[1::2], strict=True)}


ESCAPES = pairs("- - e \\ E \\ \\ \\ ' ' ` ` . .")
ESCAPES |= dict.fromkeys(" ~0t", " ") | dict.fromkeys("&)|^/,%c:{}!durpa", "")
GLYPHS = pairs(
    """aq ' dq " oq ‘ cq ’ lq “ rq ” em — en – hy - mi - bu • co © rg ® tm ™ ti ~ ha ^ ga ` aa ´ rs \\ lB [
    rB ] lC { rC } la ⟨ ra ⟩ <= ≤ >= ≥ != ≠ +- ± -> → <- ← ua ↑ da ↓ pl + eq = mu × de ° sq □ ba |
    br | sl / at @ sh # Do $ ss ß Po £ Eu € sc § :a ä :o ö :u ü :A Ä :O Ö :U Ü 'e é 'a á 'i í 'o ó
    'u ú 'E É `e è `a à ^e ê ^a â ^o ô ^i î ^u û ,c ç ~n ñ o/ ø O/ Ø oA Å oa å ae æ AE Æ 12 ½ 14 ¼
    34 ¾ Fo « Fc » fo ‹ fc › or | an ∧ no ¬ is ∫ *a α *b β *m μ *p π dg † OK ✓ :e ë :i ï /O Ø
    /o ø tmu × tdi ÷ t+- ± vs š vS Š vz ž vZ Ž vc č"""
) | {"ul": "_"}
_ESCAPE = re.compile(
    r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[-+]?(?:\[[^\]]*\]|\(\d\d|'[^']*'|\d{1,2})|[mMFgkKVY](?:\[[^\]]*\]|\(..|.)"
    r"|[hvwLlDbxXSHoNRZABC]'[^']*'|\[(?P<long>[^\]]+)\]|\((?P<two>..)|\*(?:\[(?P<name>[^\]]*)\]|\((?P<pair>..)|(?P<one>.))"
    r"|n[-+]?(?:\[[^\]]*\]|\(..|.)|(?P<rest>.)|$)"
)
_ITEM = re.compile(r"-|\(?(?:\d{1,3}|[a-z])[.)]")  # tags that stay in the line of their text
MOST_EXPANSIONS = 100_000  # of a page's own macros, which may call each other endlessly
STRINGS = pairs("lq “ rq ” R ® Tm ™ C+ C++ -- — Aq '")
FONTS = set("B I R SM SB BR RB IR RI BI IB".split())
PARAGRAPHS = set("PP P LP Pp HP sp Lp".split())
# Requests without text.
SILENT = set(
    """ad na hy nh ne in ti ll ta ft fam ss cs bd ps vs nr rn PD AT UC DT IX hc ev tr so mso pl po ns rs bp
    wh it ec eo lf pn rm als warn cflags color hla hpf do nop fl Os Bk Ek Bf Ef Sm Db char fchar blm
    evc ftr fspecial gcolor mc tm ex hw shc pc ab Dd""".split()
)


class Page:
    """Reads a manual page. Attributes: `title`, and `blocks` of (text, level of a heading or 0)."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, int]] = []
        self.line: list[str] = []  # of the paragraph so far
        self.title = ""
        self.words = Words()
        self.verbatim = self.joined = False  # verbatim: keep lines; joined: no space before the next word
        self.tag: str | None = None  # of a list item, before its text
        self.wants_tag = False
        self.strings, self.macros = dict(STRINGS), {}
        self.depth, self.expansions, self.in_list = 0, 0, False

    def end(self) -> None:
        """End the paragraph or the piece of code."""
        text = "\n".join(self.line).strip("\n")
        if not self.verbatim:
            text = "\n".join(filter(None, (" ".join(part.split()) for part in text.split("\v"))))
        self.line = []
        item = bool(text) and bool(_ITEM.fullmatch(self.tag or ""))
        if self.tag is not None and (text or not self.verbatim):
            text, self.tag = (" " if item else "\n").join(filter(None, (self.tag, text))), None
        if item and self.in_list and self.blocks:
            self.blocks[-1] = (f"{self.blocks[-1][0]}\n{text}", 0)
        elif text.strip():
            self.blocks.append((text, 0))
        self.in_list = item or (self.in_list and not text)

    def text(self, line: str) -> None:
        """Add a line of text without macros."""
        line = self.plain(line)
        if self.wants_tag:
            self.end()
            self.tag, self.wants_tag = line.strip(), False
        elif not self.verbatim and not line.strip():
            self.end()
        elif self.joined and self.line:
            self.line[-1] += line
        else:
            self.line.append(line)
        self.joined = False

    def plain(self, text: str) -> str:
        """Text without escapes."""

        def meaning(match: re.Match) -> str:
            glyph = match["long"] or match["two"]
            if glyph:
                if re.fullmatch(r"u[0-9A-F]{4,6}", glyph):
                    return chr(int(glyph[1:], 16))
                return GLYPHS.get(glyph, STRINGS.get(glyph, ""))
            name = match["name"] or match["pair"] or match["one"]
            if name:
                return self.strings.get(name, GLYPHS.get(name, ""))
            return ESCAPES.get(match["rest"], match["rest"]) if match["rest"] else ""

        return _ESCAPE.sub(meaning, re.sub(r"\\[\"#].*", "", text))

    def run(self, lines: list[str]) -> None:
        """Read lines of macros and text."""
        number = 0
        while number < len(lines):
            line = lines[number]
            number += 1
            while line.endswith("\\") and not line.endswith("\\\\") and number < len(lines):
                line, number = line[:-1] + lines[number], number + 1
            if not line.startswith((".", "'")):
                if line.strip() or self.verbatim or not line:
                    self.text(line)
                continue
            request = re.match(r"[.']\s*(\S*?)(?=\s|\\\"|$)\s*(.*)", line)
            name, rest = request[1], request[2]
            if name in ("de", "am", "ig", "de1", "dei"):
                number = self.definition(lines, number, name, rest)
            elif name in ("if", "ie", "el", "while"):
                number = self.condition(lines, number, name, rest)
            elif name == "TS":
                number = self.table(lines, number)
            elif name == "EQ":
                while number < len(lines) and not lines[number].startswith(".EN"):
                    number += 1
            elif name and not name.startswith(("\\", '"')):
                self.macro(name, rest)

    def definition(self, lines: list[str], number: int, name: str, rest: str) -> int:
        """Skip the lines of a definition; those of `.de` are kept, to run where the macro is used."""
        names = arguments(rest)
        place = 0 if name == "ig" else 1
        stop = names[place] if len(names) > place else "."
        first = number
        while number < len(lines) and not re.match(rf"\.\s*{re.escape(stop)}\s*$", lines[number]):
            number += 1
        if name == "de" and names:
            self.macros[names[0]] = lines[first:number]
        return number + 1

    def condition(self, lines: list[str], number: int, name: str, rest: str) -> int:
        """Read a conditional part if its condition holds on a terminal (nroff) or an odd page."""
        truth = not self.last_truth if name == "el" else None
        if truth is None:
            match = re.match(r"(!?)(n|t|o|e|v|\S+)\s*(.*)", rest)
            if not match:
                return number
            truth = (match[2] == "n" or match[2] == "o") != bool(match[1])
            rest = match[3]
        if rest.startswith("\\{"):
            inner, depth, rest = [], 1, rest[2:].strip()
            if rest:
                inner.append(rest)
                depth += rest.count("\\{") - rest.count("\\}")
            while depth > 0 and number < len(lines):
                depth += lines[number].count("\\{") - lines[number].count("\\}")
                inner.append(lines[number])
                number += 1
            if inner:
                inner[-1] = re.sub(r"\.?\\}.*$", "", inner[-1])
            if truth:
                self.run([line for line in inner if line.strip()])
        elif truth and rest:
            self.run([rest])
        if name == "ie":  # now, as conditions inside this one's branch have ended
            self.last_truth = truth
        return number

    last_truth = False

    def table(self, lines: list[str], number: int) -> int:
        """Add a table of tbl: one line per row, with | between cells."""
        self.end()
        separator, rows, began, inside = "\t", [], False, None
        while number < len(lines) and not lines[number].startswith(".TE"):
            line = lines[number]
            number += 1
            if not began:
                if option := re.search(r"tab\s*\(\s*(.)\s*\)", line):
                    separator = option[1]
                began = line.rstrip().endswith(".") and not line.startswith(".")
            elif inside is not None:  # a cell of several lines
                if line.startswith("T}"):
                    rows[-1][-1] = " ".join(inside)
                    rest = line[2:].split(separator)[1:]
                    inside = None
                    rows[-1] += rest
                    if rest and rest[-1].strip() == "T{":
                        inside = []
                else:
                    inside.append(_cell_line(line))
            elif line.startswith(".T&"):
                began = False
            elif not line.startswith(".") and not re.fullmatch(r"[_=\s]*", line):
                rows.append(line.split(separator))
                if rows[-1][-1].strip() == "T{":
                    inside = []
        cells = [[" ".join(self.plain(cell).split()) for cell in row] for row in rows]
        self.line = [" | ".join(row) for row in cells if any(row)]
        was, self.verbatim = self.verbatim, True
        self.end()
        self.verbatim = was
        return number + 1

    def macro(self, name: str, rest: str) -> None:
        """Handle one request or macro with its arguments."""
        if name in self.macros:
            self.expanded(name, rest)
        elif name == "TH" or name == "Dt":
            self.title = " ".join(arguments(rest)[:1])
        elif name in ("SH", "Sh", "SS", "Ss"):
            self.end()
            self.verbatim = self.wants_tag = False
            heading = self.plain(" ".join(arguments(rest)))
            self.blocks.append((heading, 1 if name in ("SH", "Sh") else 2)) if heading else None
        elif name in PARAGRAPHS:
            if self.verbatim and name == "sp":
                self.line.append("")
            elif not self.verbatim:
                self.end()
        elif name in ("nf", "EX", "Bd", "fi", "EE", "Ed"):
            self.end()
            filled = name == "Bd" and ("-filled" in rest or "-ragged" in rest)
            self.verbatim = name in ("nf", "EX", "Bd") and not filled
        elif name in ("TP", "TQ"):
            if name == "TP" or self.tag is None:
                self.end()
            self.wants_tag = True
        elif name in ("IP", "It"):
            self.end()
            words = arguments(rest)[:1] if name == "IP" else [self.words.of("It", rest)] if rest else []
            tag = self.plain(" ".join(words)).strip()
            self.tag = "-" if tag in ("•", "*", "o", "·") else tag or None
        elif name == "br" and self.line and not self.verbatim:
            self.line.append("\v")
        elif name in ("RS", "RE", "Bl", "El", "br", "YS"):
            if not self.verbatim:
                self.end()
        elif name in ("ds", "ds1"):
            string = re.match(r"(\S+)\s*\"?(.*)", rest)
            if string:
                self.strings[string[1]] = self.plain(string[2])
        elif name in ("UR", "MT"):
            self.address = rest.strip()
        elif name in ("UE", "ME"):
            self.text(f"<{self.address}>{rest.strip()}")
        elif name in ("SY", "OP"):
            self.text(f"[{rest}]" if name == "OP" else rest)
        elif name in FONTS:
            self.text(_join_font_words(name, rest))
        elif name not in SILENT:
            self.text(self.words.of(name, rest))

    address = ""

    def expanded(self, name: str, rest: str) -> None:
        """Run a macro that the page defines."""
        if self.depth > 20 or self.expansions > MOST_EXPANSIONS:
            return
        values = arguments(rest)
        self.depth += 1
        self.expansions += 1

        def argument(match: re.Match) -> str:
            place = int(match[1]) - 1
            return values[place] if place < len(values) else ""

        self.run([re.sub(r"\\+\$(\d)", argument, line).replace("\\$*", rest) for line in self.macros[name]])
        self.depth -= 1


def _cell_line(line: str) -> str:
    """The text of a line inside a table's cell."""
    request = re.match(r"[.']\s*(\S*)\s*(.*)", line)
    if not request:
        return line
    return _join_font_words(request[1], request[2]) if request[1] in FONTS else ""


def _join_font_words(name: str, rest: str) -> str:
    """The words of a macro for one font, with spaces; of one that alternates two fonts, without."""
    return ("" if len(name) == 2 and name not in ("SM", "SB") else " ").join(arguments(rest))
