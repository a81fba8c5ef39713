"""What each stage of the data pipeline leaves of a corpus, in documents and in tokens: data.csv."""

import re
from pathlib import Path
from typing import NamedTuple

from cpt.report.rows import Row, grouped, read_rows

LENGTH_RULES = ("empty", "minimum_lines", "short_lines")
STATISTICS_COLUMNS = ("corpus", "stage", "rule", "mixture", "documents", "tokens", "estimated_tokens")
COLUMNS = (
    "corpus", "step", "taken_documents", "taken_tokens", "documents", "tokens", "token_share", "estimated",
)  # fmt: skip
DROPPED, APART, NOT_PACKED = "dropped", "held out", "not packed"


class Amount(NamedTuple):
    """Documents (None: the stage doesn't count them), tokens, and whether the tokens are estimated."""

    documents: int | None
    tokens: int
    estimated: bool


class Step(NamedTuple):
    """What a step takes away from a corpus (None: a total), what is left after it, and how it is taken."""

    label: str
    taken: Amount | None
    left: Amount
    how: str = DROPPED


def read_steps(path: Path) -> dict[str, list[Step]]:
    """The steps of each corpus of a statistics.csv.

    Raises UserError if the file has no rows or lacks a column.
    """
    corpora = grouped(read_rows(path, STATISTICS_COLUMNS), "corpus")
    return {corpus: _steps(grouped(rows, "stage")) for corpus, rows in corpora.items()}


class _Steps:
    """Collects the steps of one corpus, and counts what is left."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.left = Amount(None, 0, False)

    def total(self, label: str, amount: Amount) -> None:
        """Add a line with what is left, and set it to this amount."""
        self.left = amount
        self.steps.append(Step(label, None, amount))

    def take(self, label: str, rows: list[dict[str, str]], how: str = DROPPED) -> None:
        """Add a line that takes away the sum of some rows."""
        amounts = [_amount(row) for row in rows]
        counts = [amount.documents for amount in amounts if amount.documents is not None]
        documents = sum(counts) if counts else None
        taken = Amount(documents, sum(amount.tokens for amount in amounts), amounts[0].estimated)
        left = None if documents is None or self.left.documents is None else self.left.documents - documents
        self.left = Amount(left, self.left.tokens - taken.tokens, taken.estimated)
        self.steps.append(Step(label, taken, self.left, how))


def _amount(row: dict[str, str]) -> Amount:
    documents = int(row["documents"]) if row["documents"] else None
    # Without any tokenized text, a corpus has no estimate.
    return Amount(documents, int(row["tokens"] or row["estimated_tokens"] or 0), not row["tokens"])


def _steps(stages: dict[str, list[dict[str, str]]]) -> list[Step]:
    tally = _Steps()
    tally.total("read", _amount(stages["raw"][0]))
    kinds: dict[str, list[dict[str, str]]] = {"column": [], "length": [], "repetition": []}
    for row in stages["filter"]:
        bounds, length = row["rule"].startswith(("where_", "private_")), row["rule"] in LENGTH_RULES
        kinds["column" if bounds else "length" if length else "repetition"].append(row)
    for kind, members in kinds.items():
        for label, parts in _by_label(members).items():
            tally.take(label, parts)
        if members or kind != "column":
            tally.total(f"after {kind} rules", tally.left)
    tally.take("exact duplicates", stages["duplicates"])
    if "near_duplicates" in stages:
        tally.take("near-duplicates", stages["near_duplicates"])
    contaminated, dropped = stages["contaminated"]
    remainder = int(contaminated["documents"]) - int(dropped["documents"])
    tally.take(f"contaminated ({remainder:,} left in)" if remainder else "contaminated", [dropped])
    if "overlap" in stages:
        tally.take("overlap with held-out text", stages["overlap"])
    for label, parts in _by_label(stages["token_quality"]).items():
        tally.take(label, parts)
    tally.take("held out", stages["held_out"], APART)
    kept = _amount(stages["kept"][0])
    tally.total("kept", kept)
    for packed in stages.get("packed", []):
        mixture, tally.left = packed["mixture"], kept
        for row in stages["packing"]:
            if row["mixture"] == mixture and row["tokens"] != "0":
                tally.take(f"{row['rule']} ({mixture})", [row], NOT_PACKED)
        tally.total(f"packed ({mixture})", _amount(packed))
    return tally.steps


def _by_label(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """The rows of rules that dropped something, by rule in words; n-gram rules of all lengths share one."""
    labels: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["documents"] != "0":
            labels.setdefault(re.sub(r"\d+_gram", "n-grams", row["rule"]).replace("_", " "), []).append(row)
    return labels


def data_rows(corpora: dict[str, list[Step]]) -> list[Row]:
    """The rows of data.csv: for each step what it took (empty: a total), and what was left after it."""
    return [
        {
            "corpus": corpus,
            "step": step.label,
            "taken_documents": step.taken.documents if step.taken else None,
            "taken_tokens": step.taken.tokens if step.taken else None,
            "documents": step.left.documents,
            "tokens": step.left.tokens,
            "token_share": step.left.tokens / max(steps[0].left.tokens, 1),
            "estimated": (step.taken or step.left).estimated,
        }
        for corpus, steps in corpora.items()
        for step in steps
    ]
