"""The one look of all figures: size, fonts, colours, and files that are equal byte for byte."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from cpt.files import atomic

# Okabe and Ito's palette (2008), distinct under the common kinds of colour blindness. Figure 1 of the paper
# draws its two runs green and orange, Figure 2 its two groups blue and green; the orders follow.
GREEN, ORANGE, BLUE, PURPLE, SKY, YELLOW = "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#56B4E9", "#E69F00"
RUN_COLOURS = (GREEN, ORANGE, BLUE, PURPLE, SKY, YELLOW)
GROUP_COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY, YELLOW)
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1.5, 1.5, 1.5)))  # so that grey prints read as well
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#555555"

WIDTH = 5.2  # inches: text of 8 pt stays over 5 pt in a column of 3.3 in and is 10 pt across 6.5 in

_SETTINGS = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # embedded TrueType, so text stays text
    "svg.fonttype": "path",  # glyphs as outlines: the same picture without the font installed
    "svg.hashsalt": "figure",
}

# No creation dates, so equal inputs give equal bytes.
_METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}


@contextmanager
def figure(height: float, files: Sequence[Path] = ()) -> Iterator[Figure]:
    """A figure in the house style, `height` inches high, to be drawn inside the `with` block.

    It is written to each of the files at the end, atomically, in the format of its suffix.
    """
    with mpl.rc_context(_SETTINGS):
        yield (drawn := Figure(figsize=(WIDTH, height), layout="constrained"))
        for path in files:
            extension = path.suffix[1:]
            with atomic(path) as temporary:
                drawn.savefig(temporary, format=extension, metadata=_METADATA.get(extension))


def look(index: int, *parts: str) -> dict[str, Any]:
    """The `parts` of a line's look (`color`, `linestyle`, `marker`) by number, for matplotlib's `plot`."""
    choices = {"color": RUN_COLOURS, "linestyle": LINES, "marker": MARKERS}
    return {part: choices[part][index % len(choices[part])] for part in parts}


def legend(drawn: Figure, columns: int, **options: Any) -> None:
    """Draw a legend above all panels, in at most this many columns, fewer if long names wouldn't fit."""
    for number in range(columns, 0, -1):
        box = drawn.legend(loc="outside upper center", ncols=number, **options)
        if number == 1 or box.get_window_extent().width <= drawn.bbox.width:
            return
        box.remove()
