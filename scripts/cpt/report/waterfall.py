"""Figure 6: what each stage of the data pipeline leaves of a corpus, in documents and in tokens."""

import re
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cpt.report import style
from cpt.report.labels import count_label
from cpt.report.scores import read_rows

LENGTH_RULES = ("empty", "minimum_lines", "short_lines")
COLUMNS = ("corpus", "stage", "rule", "mixture", "documents", "tokens", "estimated_tokens")
ROW_HEIGHT = 0.16  # inches, for text of 8 pt
BAR = 0.76  # of a row
HATCH = "//////"
KEPT, DROPPED, APART, LEFT = "#cfe3f1", style.ORANGE, style.GREEN, style.YELLOW  # a pale style.BLUE
MINUS, ABOUT = "\N{MINUS SIGN}", "\N{ALMOST EQUAL TO}"


class Amount(NamedTuple):
    """Documents (None: a stage that doesn't count them) and tokens; `estimated` is about the tokens."""

    documents: int | None
    tokens: int
    estimated: bool


class Step(NamedTuple):
    """A line of the figure: what is `taken` away there (None: a total), and what is left after it."""

    label: str
    taken: Amount | None
    left: Amount
    colour: str = DROPPED


def read_steps(path: Path) -> dict[str, list[Step]]:
    """The steps of each corpus of a statistics.csv.

    Raises UserError if the file has no rows or lacks a column.
    """
    corpora: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path, COLUMNS):
        corpora.setdefault(row["corpus"], []).append(row)
    return {corpus: _steps(rows) for corpus, rows in corpora.items()}


class _Steps:
    """Collects the steps of one corpus, and counts what is left."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.left = Amount(None, 0, False)

    def total(self, label: str, amount: Amount) -> None:
        """A line that says what is left; from now on it is this amount."""
        self.left = amount
        self.steps.append(Step(label, None, amount))

    def take(self, label: str, rows: list[dict[str, str]], colour: str = DROPPED) -> None:
        """A line that takes the sum of some rows away."""
        amounts = [_amount(row) for row in rows]
        counts = [amount.documents for amount in amounts if amount.documents is not None]
        documents = sum(counts) if counts else None
        taken = Amount(documents, sum(amount.tokens for amount in amounts), amounts[0].estimated)
        left = None if documents is None or self.left.documents is None else self.left.documents - documents
        self.left = Amount(left, self.left.tokens - taken.tokens, taken.estimated)
        self.steps.append(Step(label, taken, self.left, colour))


def _amount(row: dict[str, str]) -> Amount:
    documents = int(row["documents"]) if row["documents"] else None
    # A corpus of which nothing is tokenized has no estimate.
    return Amount(documents, int(row["tokens"] or row["estimated_tokens"] or 0), not row["tokens"])


def _steps(rows: list[dict[str, str]]) -> list[Step]:
    stages: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        stages.setdefault(row["stage"], []).append(row)
    made = _Steps()
    made.total("read", _amount(stages["raw"][0]))
    kinds: dict[str, list[dict[str, str]]] = {"column": [], "length": [], "repetition": []}
    for row in stages["filter"]:
        bounds, length = row["rule"].startswith("where_"), row["rule"] in LENGTH_RULES
        kinds["column" if bounds else "length" if length else "repetition"].append(row)
    for kind, members in kinds.items():
        for label, parts in _by_label(members).items():
            made.take(label, parts)
        if members or kind != "column":
            made.total(f"after {kind} rules", made.left)
    made.take("exact duplicates", stages["duplicates"])
    if "near_duplicates" in stages:
        made.take("near-duplicates", stages["near_duplicates"])
    found, dropped = stages["contaminated"]
    left_in = int(found["documents"]) - int(dropped["documents"])
    made.take(f"contaminated ({left_in:,} left in)" if left_in else "contaminated", [dropped])
    for label, parts in _by_label(stages["token_quality"]).items():
        made.take(label, parts)
    made.take("held out", stages["held_out"], APART)
    kept = _amount(stages["kept"][0])
    made.total("kept", kept)
    for packed in stages.get("packed", []):
        mixture, made.left = packed["mixture"], kept
        for row in stages["packing"]:
            if row["mixture"] == mixture and row["tokens"] != "0":
                made.take(f"{row['rule']} ({mixture})", [row], LEFT)
        made.total(f"packed ({mixture})", _amount(packed))
    return made.steps


def _by_label(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """The rows of rules that dropped something, by rule in words; n-gram rules of all lengths go together."""
    labels: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["documents"] != "0":
            labels.setdefault(re.sub(r"\d+_gram", "n-grams", row["rule"]).replace("_", " "), []).append(row)
    return labels


def height(corpora: dict[str, list[Step]]) -> float:
    """The figure's height in inches."""
    return 0.35 + ROW_HEIGHT * sum(len(steps) + 1.6 for steps in corpora.values())


def draw_waterfall(drawn: Figure, corpora: dict[str, list[Step]]) -> None:
    """Figure 6: one row of panels per corpus, documents left, tokens right, in % of what was read."""
    grid = drawn.subplots(
        len(corpora),
        4,
        squeeze=False,
        gridspec_kw={
            "width_ratios": [0.62, 1, 0.62, 1],
            "height_ratios": [len(steps) + 1 for steps in corpora.values()],
        },
    )
    for panels, (corpus, steps) in zip(grid, corpora.items(), strict=True):
        for axes in panels:
            axes.set_ylim(len(steps) - 0.4, -1.5)
            axes.set_xlim(0, 1)
            axes.set_axis_off()
        for unit, (bars, numbers) in zip(("documents", "tokens"), (panels[:2], panels[2:]), strict=True):
            _draw_unit(bars, numbers, steps, unit)
        _draw_labels(panels[0], corpus, steps)
    hatched = Patch(facecolor="white", edgecolor=style.GREY, hatch=HATCH, linewidth=0)
    drawn.legend(
        [*(Patch(facecolor=colour) for colour in (KEPT, DROPPED, APART, LEFT)), hatched],
        ["left", "dropped", "held out", "not packed", f"{ABOUT} estimated"],
        loc="outside lower center",
        ncols=5,
        columnspacing=1.2,
        handlelength=1.4,
    )


def _draw_labels(axes: Axes, corpus: str, steps: list[Step]) -> None:
    axes.text(-0.04, -1, corpus, ha="right", va="center", fontweight="bold")
    for position, step in enumerate(steps):
        weight = "normal" if step.taken else "bold"
        axes.text(-0.04, position, step.label, ha="right", va="center", fontsize=8, fontweight=weight)


def _draw_unit(bars: Axes, numbers: Axes, steps: list[Step], unit: str) -> None:
    whole = getattr(steps[0].left, unit) or 1
    numbers.text(0.5, -1, unit, ha="right", va="center")
    for position, step in enumerate(steps):
        left = getattr(step.left, unit)
        taken = getattr(step.taken, unit) if step.taken else 0
        if left is None or taken is None:
            continue
        bars.barh(position, left / whole, BAR, color=KEPT)
        if taken:
            # The edge keeps a drop visible that is thinner than a pixel.
            edge = {"edgecolor": step.colour, "linewidth": 0.7}
            bars.barh(position, taken / whole, BAR, left / whole, color=step.colour, **edge)
        shown = taken if step.taken else left
        number = f"{shown:,}" if unit == "documents" and shown < 10**7 else count_label(shown)
        if step.taken and shown:
            number = MINUS + number
        if unit == "tokens" and (step.taken or step.left).estimated:
            hatch = {"hatch": HATCH, "hatch_linewidth": 0.4, "edgecolor": "white", "linewidth": 0}
            bars.barh(position, (left + taken) / whole, BAR, facecolor="none", **hatch)
            number = ABOUT + number if shown else number
        look = {"ha": "right", "va": "center", "fontsize": 7.5}
        look["fontweight"] = "normal" if step.taken else "bold"
        numbers.text(0.5, position, number, **look)
        numbers.text(1, position, _percent(shown, whole), **look)


def _percent(value: int, whole: int) -> str:
    percent = 100 * value / whole
    if 0 < percent < 0.05:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= 99.95 else f"{percent:.1f} %"
