"""Bits per byte of held-out text in words and tables: for Markdown, the model card and the terminal."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from cpt.files import read_json
from cpt.report.labels import MINUS
from cpt.report.rows import Row, grouped
from cpt.report.scores import BITS_PER_BYTE
from cpt.token_windows import FEWEST_GROUPS

NONE = "\N{EN DASH}"
SEEN = "No run trained on these documents; the base model may have."
OVERLAP = (
    "In training text: the share of held-out 13-grams of words that documents trained on have too "
    "(corpora/overlap.csv)."
)
INTERVALS = (
    "95 % confidence intervals: bootstrap over groups (documents of one page, file or folder), 10,000 "
    "resamples, with both models on the same documents for a change."
)
_CORPUS = f"{BITS_PER_BYTE}."


def read_overlap(path: Path) -> dict[str, float]:
    """Read from overlap.json the share of each corpus's held-out text that is in training text.

    Conversations, which aren't compared, and corpora whose held-out text has no 13-grams are missing.
    """
    counts = read_json(path)["corpora"]
    return {corpus: row["shared"] / row["ngrams"] for corpus, row in counts.items() if row["ngrams"]}


def is_held_out(row: Row) -> bool:
    """Whether a row of scores.csv is of held-out text (and not of a benchmark in bits per byte)."""
    return row["task"].startswith(_CORPUS)


def corpus_of(row: Row) -> str:
    """The corpus of a row of held-out text."""
    return row["task"].removeprefix(_CORPUS)


def named(corpus: str, roles: dict[str, str]) -> str:
    """A corpus with its role (the domain, general text), if it has one."""
    return f"{corpus} ({roles[corpus]})" if corpus in roles else corpus


def bits_text(row: Row) -> str:
    """Bits per byte: `0.931`."""
    return f"{row['score']:.3f}"


def bits_interval(row: Row) -> str:
    """The interval of bits per byte: `0.880 to 0.984`; a dash where there is a single group."""
    return _interval(row["ci_low"], row["ci_high"], ".3f")


def change_text(row: Row) -> str:
    """The change against the base model in percent: `-9.7 %`; a dash for the base model."""
    return f"{row['relative_change']:+.1f} %".replace("-", MINUS) if row["tokens"] else NONE


def change_interval(row: Row) -> str:
    """The interval of the change in percent: `-10.6 to -8.8`; a dash for the base model or a single group."""
    return _interval(row["relative_ci_low"], row["relative_ci_high"], "+.1f")


def _interval(low: float | None, high: float | None, form: str) -> str:
    return NONE if low is None or high is None else f"{low:{form}} to {high:{form}}".replace("-", MINUS)


def overlap_text(share: float) -> str:
    """A share in percent: `11.2 %`."""
    return f"{100 * share:.1f} %"


def count_text(documents: int, groups: int) -> str:
    """The documents and groups behind bits per byte: `96 documents of 82 groups`."""
    return (
        f"{documents:,} document{'s' if documents > 1 else ''} of {groups:,} group{'s' if groups > 1 else ''}"
    )


def few_groups_warnings(rows: Iterable[Row]) -> list[str]:
    """A sentence for each corpus with fewer than 30 groups."""
    few = {corpus_of(row): row for row in rows if row["groups"] < FEWEST_GROUPS}
    return [
        f"Warning: {corpus} has only {count_text(row['n'], row['groups'])}. With fewer than {FEWEST_GROUPS} "
        "groups intervals may be too narrow; raise held_out.share or evaluate.held_out_tokens."
        for corpus, row in few.items()
    ]


def held_out_markdown(
    rows: Sequence[Row], roles: dict[str, str], overlap: dict[str, float] | None = None
) -> list[str]:
    """A Markdown table of held-out text, the notes under it, and a warning where groups are few.

    Args:
        rows: of scores.csv; others than those of held-out text are skipped.
        roles: what a corpus is, by its name: the domain, general text.
        overlap: the share of a corpus's held-out text that is in training text, if it is to be shown.

    Returns:
        Paragraphs; none without held-out text.
    """
    rows = [row for row in rows if is_held_out(row)]
    if not rows:
        return []
    title, rule = (" in training text |", " ---: |") if overlap else ("", "")
    lines = [
        f"| held-out text | documents | groups |{title} run "
        "| bits per byte | 95 % CI | change | 95 % CI (%) |",
        f"| --- | ---: | ---: |{rule} --- | ---: | :---: | ---: | :---: |",
    ]
    for row in chain.from_iterable(grouped(rows, "task").values()):
        corpus = corpus_of(row)
        cells = [named(corpus, roles), f"{row['n']:,}", f"{row['groups']:,}"]
        cells += [overlap_text(overlap[corpus]) if corpus in overlap else NONE] if overlap else []
        cells += [row["run"], bits_text(row), bits_interval(row), change_text(row), change_interval(row)]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"Lower is better; a change is against the base model. {SEEN} {INTERVALS}"]
    notes += [OVERLAP] if overlap else []
    return ["\n".join(lines), *notes, *few_groups_warnings(rows)]
