"""Readers of text with markup (reStructuredText, LaTeX, manual pages, notebooks, Markdown) and plain text."""

import gzip
import json

import pytest
from manuals import reading, text_of

from cpt.errors import UserError


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    with reading(tmp_path_factory.mktemp("files")) as read:
        yield read


def test_rst(read):
    text = """Title of the page
=================

A paragraph whose lines were broken, with :func:`~numpy.mean` and ``code``,
and which continues here.

.. function:: area(width)

   What the function is for.

Section
-------

Example::

    if width < 0:
        pass

===== =====
Name  Value
===== =====
alpha 1
===== =====

.. image:: picture.png
"""
    work = read("x.rst", text)
    assert text_of(work) == (
        "Title of the page\n\nA paragraph whose lines were broken, with mean and code, and which continues "
        "here.\n\narea(width)\n\nWhat the function is for.\n\nSection\n\nExample:\n\n    if width < 0:\n"
        "        pass\n\nName | Value\nalpha | 1"
    )
    assert work.documents[0][0] == "Title of the page"
    assert work.without_text == ["figure picture.png"]


def test_tex(read):
    text = r"""\documentclass{article} % a comment
\title{On \emph{forgetting}}
\begin{document}
\maketitle
\section{First}
A paragraph with a formula $x^2 + 1$, an \'e, 5\,\% and
a line that was broken. % not this
\begin{verbatim}
if width < 0:  % kept
    pass
\end{verbatim}
\subsection*{Lists}
\begin{itemize}
\item one
\item two
\end{itemize}
\begin{tabular}{lr}
\hline
Name & Value \\
alpha & 1 \\ \hline
\end{tabular}
\end{document}
"""
    assert text_of(read("x.tex", text)) == (
        "On forgetting\n\nFirst\n\nA paragraph with a formula $x^2 + 1$, an é, 5 % and a line that was "
        "broken.\n\nif width < 0:  % kept\n    pass\n\nLists\n\n- one\n- two\n\nName | Value\nalpha | 1"
    )
    assert "é" in text_of(read("y.tex", "\\usepackage[latin1]{inputenc}\ncafé".encode("latin-1")))


def test_manual_pages(read):
    man = r""".\" a comment
.TH AREA 1 2026-01-01
.SH NAME
area \- compute an area
.SH OPTIONS
.TP
.BR \-w ", " \-\-width =\fIN\fR
The width, in
meters.
.IP \(bu 2
first
.IP \(bu
second
.PP
See
.BR perimeter (1).
.nf
area --width 3
  | less
.fi
"""
    assert text_of(read("area.1", man)) == (
        "NAME\n\narea - compute an area\n\nOPTIONS\n\n-w, --width=N\nThe width, in meters.\n\n- first\n"
        "- second\n\nSee perimeter(1).\n\narea --width 3\n  | less"
    )
    mdoc = ".Dd May 1\n.Dt AREA 1\n.Sh NAME\n.Nm area\n.Nd compute\n.Sh SYNOPSIS\n"
    mdoc += ".Nm\n.Op Fl w Ar width\n.Xr ls 1 .\n"
    assert text_of(read("area.1bsd.gz", gzip.compress(mdoc.encode()))) == (
        "NAME\n\narea — compute\n\nSYNOPSIS\n\narea [-w width] ls(1)."
    )
    assert read("alias.3", ".so man3/area.3\n").documents == []
    with pytest.raises(UserError, match=r"notes.1: it doesn't begin like a manual page; rename or remove it"):
        read("notes.1", "Version one of my notes")


def test_notebooks(read):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Some text."]},
        {"cell_type": "code", "source": "x = 1\nprint(x)", "outputs": [{"text": "1"}]},
    ]
    assert (
        text_of(read("x.ipynb", json.dumps({"cells": cells}))) == "# Title\n\nSome text.\n\nx = 1\nprint(x)"
    )
    with pytest.raises(UserError, match=r"y.ipynb: it is no notebook"):
        read("y.ipynb", "[]")


def test_hard_wraps_of_plain_text(read):
    wrapped = (
        "This paragraph was broken to fit a width of some sixty columns or\nso, and no word of the next line "
        "would have fitted in there as\nfar as can be seen.\n\n- The first item of a list that is too long "
        "for one line so\n  that it continues below.\n- The second item.\n"
    )
    verse = "A line of a poem,\nanother one,\nnot broken to fit.\n"
    code = "int area(int width, int height, const char *message_to_print) {\n    return width * height;\n}\n"
    for name in ("x.txt", "x.md"):
        text = text_of(read(name, f"{wrapped}\n{verse}" if name == "x.md" else f"{wrapped}\n{verse}\n{code}"))
        assert text.startswith("This paragraph was broken to fit a width of some sixty columns or so, and no")
        assert "for one line so that it continues below.\n- The second item.\n" in text
        assert verse in text
        assert name == "x.md" or text.endswith(code)
    assert text_of(read("y.txt", verse + code)) == verse + code


def test_marks_of_rst(read):
    """Emphasis, references, notes and escapes are read; lines that aren't text are skipped."""
    text = r"""
.. A comment that goes
   over two lines.

.. toctree::
   :maxdepth: 2

   first
   second

*Words* of **any kind** [1]_, *fit_*, ``*args`` and ``name_``, H\ :sub:`2`\ O, 2 \* 3, see Python_
or :math:`x^*`.

.. figure:: picture.png
   :alt: A picture of it

   What it shows.

| Lines of
| an address

.. [1]
   The note.
"""
    work = read("x.rst", text)
    assert text_of(work) == (
        "Words of any kind [1], fit_, *args and name_, H₂O, 2 * 3, see Python or x^*.\n\nWhat it shows.\n\n"
        "Lines of\nan address\n\n[1] The note."
    )
    assert work.without_text == []


def test_what_is_no_table_of_rst(read):
    """Its lines stay as they are."""
    text = "Text.\n\n=====  =====\nName Value\n\n+--+\nText."
    assert text_of(read("x.rst", text)) == "Text.\n\n=====  =====\nName Value\n\n+--+\nText."


def test_tables_of_rst(read):
    text = """
.. table:: Of options

   +--------+---------------+
   | Name   | Meaning       |
   +========+=======+=======+
   | width  | How   | wide, |
   |        | very  |       |
   +--------+-------+-------+

=====  ==========================================================
Name   What it is, at greater length than other lines are as well
=====  ==========================================================
alpha  The first, at greater length than other lines are, so that
       it continues here.
beta   The *second*.
=====  ==========================================================

.. list-table:: Of more
   :header-rows: 1

   * - Name
     - Meaning that is
       long
   * - gamma
     -

After.
"""
    assert text_of(read("x.rst", text)) == (
        "Of options\n\nName | Meaning\nwidth | How very | wide,\n\n"
        "Name | What it is, at greater length than other lines are as well\n"
        "alpha | The first, at greater length than other lines are, so that it continues here.\n"
        "beta | The second.\n\nOf more\n\nName | Meaning that is long\ngamma |\n\nAfter."
    )


def test_macros_of_tex(read):
    r"""No word is lost: `\href` once ended the reading, and \texttt, \verb and others gave no text."""
    text = r"""\newcommand{\product}{The \emph{Machine}} \def\version{3}
\newcommand{\sum}[1]{#1}
\begin{document}
\product{} of version~\version, \newcommand{\a}{a}\a

\hypertarget{a}{%
\section{One}\label{a}}

See \href{https://a.org/b}{the \emph{page}}, \texttt{int x}, \verb|a_b %|, \textsf{sans}, \mbox{box},
10\textsuperscript{6} and H\textsubscript{2}O, \SI{10}{km}, a \textless{} b.\footnote{The note,

of two paragraphs.} More text.

Roses are red\\
violets are blue.

\begin{description}
\item[Term] What it means.
\end{description}
\begin{enumerate}
\item one
  \begin{itemize}
  \item inside
  \end{itemize}
\item two

\begin{verbatim}
code % kept
\end{verbatim}
\item three
\end{enumerate}

\begin{longtable}{ll}
\caption{Of names}\tabularnewline
\toprule
\begin{minipage}[b]{2cm}\raggedright Name \end{minipage} & Value \\
\endfirsthead
Name & Value \\
\endhead
\multicolumn{2}{c}{both} \\
a & b \\
\end{longtable}
\end{document}
"""
    assert text_of(read("x.tex", text)) == (
        "The Machine of version 3, a\n\nOne\n\nSee the page, int x, a_b %, sans, box, 10⁶ and H₂O, 10 km, "
        "a < b.[1] More text.\n\n[1] The note, of two paragraphs.\n\nRoses are red\nviolets are blue.\n\n"
        "Term\nWhat it means.\n\n"
        "1. one\n  - inside\n2. two\n\ncode % kept\n\n3. three\n\nOf names\n\nName | Value\nboth\na | b"
    )


@pytest.mark.parametrize("before", ['\\"Shamelessly copied\n', '\\\n.\\" made by a tool\n'])
def test_manual_pages_that_begin_with_a_comment(read, before):
    assert text_of(read("a.1", f"{before}.TH A 1\n.SH NAME\na\n")) == "NAME\n\na"


def test_lists_and_lines_of_manual_pages(read):
    page = ".ie 1 \\{\\\n. ftr V B\n.\\}\n.el \\{\\\n. ftr V CR\n.\\}\n.TH A 1\n.SH NAME\n.IP 1. 4\n"
    page += "one\n.IP 2. 4\ntwo\n.PP\nroses are red\n.br\nviolets are blue, 3 \\[tdi] 4\n"
    assert text_of(read("a.1", page)) == "NAME\n\n1. one\n2. two\n\nroses are red\nviolets are blue, 3 ÷ 4"


@pytest.mark.parametrize("inner", [".if t printed", ".ie t printed\n.el shown", ".if n shown"])
def test_else_belongs_to_its_own_condition(read, inner):
    """Conditions inside a branch don't decide which branch the outer one takes."""
    page = f".TH A 1\n.SH NAME\na\n.ie n \\{{\\\n{inner}\n.\\}}\n.el wrong\n.ie t wrong\n.el right\n"
    shown = "a right" if inner == ".if t printed" else "a shown right"
    assert text_of(read("a.1", page)) == f"NAME\n\n{shown}"


def test_notebook_cells_are_separated_alike(read):
    cell = {"cell_type": "markdown", "source": "# Title\n\n## Heading\n\nMore."}
    cells = [cell, {"cell_type": "code", "source": "x", "outputs": [{"text": "1" * 2**20}]}]
    work = read("x.ipynb", json.dumps({"cells": cells}))
    assert text_of(work) == "# Title\n\n## Heading\n\nMore.\n\nx"


def test_front_matter_is_no_text(read):
    """Front matter is the block between rules at the beginning, which site generators read."""
    work = read("x.md", '---\ntitle: "The page"\ntags: [a, b]\n---\n\n# Heading\n\nText.\n')
    assert work.documents == [("The page", "\n# Heading\n\nText.\n")]
    for text in ("---\n\nText.\n\n---\nMore.\n", "Text.\n\n---\na: b\n---\n"):
        assert text_of(read("y.md", text)) == text


def test_terms_in_plain_text(read):
    term = (
        "Term\n    What it means, broken to fit a width of some sixty columns as\n    nearly everything is.\n"
    )
    long = "A paragraph that was broken to fit the width of some sixty columns,\nas they are.\n"
    assert (
        "Term\n    What it means, broken to fit a width of some sixty columns as nearly everything is.\n"
        in (text_of(read("x.txt", f"{long}\n{term}\n{long}")))
    )
