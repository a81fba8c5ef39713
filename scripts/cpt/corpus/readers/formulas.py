# ruff: noqa: RUF001
"""Writes formulas of MathML (web pages, e-books) and Word, superscripts and subscripts as plain text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element

_RAISED = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
# The text of an element with its parts; first the names of MathML, then those of Word.
_PARTS = {
    "mfrac": "{0}/{1}",
    "msup": "{0}^{1}",
    "msub": "{0}_{1}",
    "msubsup": "{0}_{1}^{2}",
    "munder": "{0}_{1}",
    "mover": "{0}^{1}",
    "munderover": "{0}_{1}^{2}",
    "mroot": "{0}^(1/{1})",
    "f": "{0}/{1}",
    "sSup": "{0}^{1}",
    "sSub": "{0}_{1}",
    "sSubSup": "{0}_{1}^{2}",
}
_SKIPPED = {"annotation", "annotation-xml", "mphantom", "rPr", "ctrlPr"}


def raised(text: str, below: bool = False) -> str:
    """Text as superscript (subscript if `below`) if Unicode has all its characters, otherwise unchanged.

    10<sup>6</sup> must not become 106.
    """
    signs = _LOWERED if below else _RAISED
    return text.translate(signs) if all(ord(sign) in signs for sign in text) else text


def formula_text(element: "_Element") -> str:
    """A formula as a line: the LaTeX in its MathML, between $ signs, or else its characters in order."""
    tex = next(
        (
            annotation.text
            for annotation in element.iter("{*}annotation")
            if "tex" in annotation.get("encoding", "")
        ),
        None,
    )
    if tex := (tex or element.get("alttext") or "").strip():
        return f"$${tex}$$" if element.get("display") == "block" else f"${tex}$"
    return " ".join(_text(element).split())


def _text(element: "_Element") -> str:
    name = str(element.tag).rpartition("}")[2]
    if not isinstance(element.tag, str) or name in _SKIPPED:
        return ""
    if name in ("mo", "chr"):
        return f" {element.text} " if element.text and element.text in "=<>≤≥≠≈→+−±∈" else element.text or ""
    parts = [_text(child) for child in element if not str(child.tag).endswith("Pr")]
    if name in ("nary", "d", "rad"):
        return _word_formula(element, name, parts)
    form = _PARTS.get(name)
    if form and len(parts) == form.count("{"):
        return form.format(*map(_bracketed, parts))
    text = "".join(parts) if len(element) else element.text or ""
    return f"√{_bracketed(text)}" if name == "msqrt" else text


def _bracketed(part: str) -> str:
    part = part.strip()
    return part if part.isalnum() or len(part) == 1 else f"({part})"


def _word_formula(element: "_Element", name: str, parts: list[str]) -> str:
    """The text of Word's sum or integral with its limits, of a root, or of brackets and their content."""
    signs = {
        str(each.tag).rpartition("}")[2]: value
        for each in (element[0].iter() if len(element) else ())
        for key, value in each.attrib.items()
        if key.endswith("val")
    }
    if name == "nary":
        below, above, rest = (*parts, "", "", "")[:3]
        limits = (f"_{_bracketed(below)}" if below else "") + (f"^{_bracketed(above)}" if above else "")
        return f"{signs.get('chr', '∫')}{limits} {rest}"
    if name == "rad":
        degree, inside = (*parts, "", "")[:2]
        return f"{_bracketed(inside)}^(1/{degree})" if degree else f"√{_bracketed(inside)}"
    return f"{signs.get('begChr', '(')}{', '.join(parts)}{signs.get('endChr', ')')}"
