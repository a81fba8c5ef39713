"""Progress for people: a bar on a terminal, a line in the log every 15 seconds elsewhere."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from tqdm import tqdm

LINE_SECONDS = 15.0
# Short enough for a terminal of 80 columns. With figures from `note`, they replace bar and rate.
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left"
NOTED = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt}, {remaining} left{postfix}"
NOTICE = logging.INFO + 5  # a level for the few lines that both terminal and log show
_terminal: TextIO | None = None


def set_terminal(stream: TextIO | None) -> None:
    """Set the stream on which bars are drawn: the process's original stderr (see cpt.command)."""
    global _terminal
    _terminal = stream


class Progress:
    """Counts work; draws a bar on a terminal, else logs a line every 15 seconds.

    Use as a context manager; call `advance(n)`, and optionally `note({name: figure})` for figures beside the
    bar.
    """

    def __init__(self, label: str, total: float | None = None, unit: str = "it", done: float = 0):
        self.label, self.total, self.unit = label, total, unit
        self.done = self.start_done = done
        self.start = self.last_line = time.monotonic()
        self.notes = ""
        self.quiet = os.environ.get("RANK", "0") != "0"
        drawn = _terminal is not None and _terminal.isatty() and not self.quiet
        self.bar = (
            tqdm(
                total=total,
                initial=done,
                desc=label,
                unit=unit,
                unit_scale=total is None or total >= 1000,
                file=_terminal,
                dynamic_ncols=True,
                leave=False,
                disable=False,  # the environment may disable the bars of libraries
                bar_format=None if total is None else BAR,
            )
            if drawn
            else None
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if not self.quiet:
            self._line()

    def note(self, figures: dict[str, str]) -> None:
        """Show figures, by their names, beside the bar."""
        self.notes = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        if self.bar is not None:
            self.bar.bar_format = self.bar.bar_format and NOTED
            self.bar.set_postfix_str(self.notes)

    def advance(self, amount: float = 1) -> None:
        """Count `amount` more units as done."""
        self.done += amount
        if self.bar is not None:
            self.bar.update(amount)
        if not self.quiet and time.monotonic() - self.last_line > LINE_SECONDS:
            self._line()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.start
        rate = (self.done - self.start_done) / elapsed if elapsed > 0 else 0.0
        total_text = f"/{self.total:,.0f}" if self.total else ""
        left = f", {(self.total - self.done) / rate:,.0f} s left" if self.total and rate > 0 else ""
        notes = f", {self.notes}" if self.notes else ""
        count = f"{self.done:,.0f}{total_text} {self.unit}, {rate:.3g} {self.unit}/s"
        logging.info(f"{self.label}: {count}{left}{notes}")


def progress_over(items: Iterable, label: str, total: int, unit: str) -> Iterator:
    """Iterate over `items`, showing progress."""
    with Progress(label, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()
