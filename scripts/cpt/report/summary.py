"""What moved, as plain text of at most 80 columns: what the terminal shows when an experiment is finished."""

import textwrap
from collections.abc import Sequence

from cpt.report.exam import BASE, CHANCE, TRAINED, WITH_DOCUMENT
from cpt.report.held_out_text import (
    OVERLAP,
    SEEN,
    bits_interval,
    bits_text,
    change_interval,
    change_text,
    corpus_of,
    count_text,
    few_groups_warnings,
    is_held_out,
    named,
    overlap_text,
)
from cpt.report.labels import MINUS
from cpt.report.rows import Row, grouped
from cpt.report.scores import LOWER, averages, base_run, shown_rows
from cpt.report.statistics import SIGNIFICANT

WIDTH = 80  # columns
NAME = 26  # of them for the name of a row, at most


def grid(names: Sequence[str], columns: dict[str, Sequence[str]]) -> list[str]:
    """Lines of a table: names of rows left, columns right-aligned, in blocks if they don't fit side by side.

    Args:
        names: of the rows.
        columns: cells by title, as many as there are names.
    """
    width = min(NAME, max(map(len, names)))
    names = [textwrap.shorten(name, width, placeholder="…").ljust(width) for name in names]
    blocks: list[list[str]] = []
    used = WIDTH
    for title, cells in columns.items():
        size = min(WIDTH - width - 2, max(map(len, (title, *cells))))
        if used + 2 + size > WIDTH:
            blocks.append(["".ljust(width), *names])
            used = width
        block = blocks[-1]
        for number, cell in enumerate((title, *cells)):
            block[number] += f"  {cell[:size].rjust(size)}"
        used += 2 + size
    return [line.rstrip() for block in blocks for line in block]


def bits_lines(scores: list[Row], roles: dict[str, str], overlap: dict[str, float]) -> list[str]:
    """Bits per byte of held-out text: each corpus with its documents and groups, the share of it that is in
    training text, the base model, and the change by each run. Arguments as in `summary_text`."""
    rows = [row for row in scores if is_held_out(row)]
    if not rows:
        return []
    lines = ["Held-out text, bits per byte (lower is better)"]
    for corpus_rows in grouped(rows, "task").values():
        first = corpus_rows[0]
        corpus = corpus_of(first)
        title = f"{named(corpus, roles)}: {count_text(first['n'], first['groups'])}"
        if corpus in overlap:
            title += f", {overlap_text(overlap[corpus])} in training text"
        lines += textwrap.wrap(title, WIDTH, break_on_hyphens=False)
        columns = {
            "bits": [bits_text(row) for row in corpus_rows],
            "95 % CI": [bits_interval(row) for row in corpus_rows],
            "change": [change_text(row) for row in corpus_rows],
            "95 % CI (%)": [change_interval(row) for row in corpus_rows],
        }
        lines += grid([row["run"] for row in corpus_rows], columns)
    for sentence in (SEEN, *([OVERLAP] if overlap else []), *few_groups_warnings(rows)):
        lines += textwrap.wrap(sentence, WIDTH, break_on_hyphens=False)
    return lines


def exam_lines(exam: list[Row]) -> list[str]:
    """The domain's own exam: chance, base model, base model with the document, runs."""
    if not exam:
        return []
    title = f"Exam: {exam[1]['n']:,} questions on {exam[1]['documents']:,} held-out documents"
    names = {CHANCE: "chance", BASE: "base model", WITH_DOCUMENT: "base, document in context"}
    cells = []
    for row in exam:
        interval = "" if row["ci_low"] is None else f"{row['ci_low']:.3f} to {row['ci_high']:.3f}"
        change = f"{_signed(row['difference'], 3)}{_mark(row['p_holm'])}" if row["row"] == TRAINED else ""
        cells.append((f"{row['score']:.3f}", interval, change))
    score, intervals, changes = zip(*cells, strict=True)
    columns = {exam[1]["metric"]: score, "95 % CI": intervals, "change": changes}
    return [title, *grid([names.get(row["row"], row["run"]) for row in exam], columns)]


def score_lines(scores: list[Row], runs: dict[str, int], labels: dict[str, str]) -> list[str]:
    """Table 1 transposed: a row for each task, a column for each run."""
    rows, means = shown_rows(scores), averages(scores)
    base = base_run(runs)
    tasks = [task for run, task in rows if run == base]
    names = [labels[task] + ("" if rows[base, task]["higher_is_better"] else f" {LOWER}") for task in tasks]
    columns = {
        run: [_score(row) for row in (*(rows[run, task] for task in tasks), *([means[run]] if means else []))]
        for run in runs
    }
    names += ["Average"] if means else []
    return [
        f"Scores (*: differs from the base model, p after Holm below {SIGNIFICANT})",
        *grid(names, columns),
    ]


def _score(row: Row) -> str:
    if row["score"] is None:
        return "-"
    text = f"{row['score']:.4f}" if abs(row["score"]) < 10 else f"{row['score']:.1f}"
    return text.replace("-", MINUS) + _mark(row["mcnemar_p_holm"])


def verdict_lines(verdicts: dict[str, str]) -> list[str]:
    """What each run's likelihoods of right and wrong answers show."""
    if not verdicts:
        return []
    lines = ["Right answers beside wrong ones, item by item"]
    for run, sentences in verdicts.items():
        lines += textwrap.wrap(f"{run}: {sentences}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def summary_text(
    scores: list[Row],
    exam: list[Row],
    verdicts: dict[str, str],
    runs: dict[str, int],
    labels: dict[str, str],
    roles: dict[str, str],
    overlap: dict[str, float],
) -> str:
    """The summary: all parts that have content.

    Args:
        scores: rows of scores.csv.
        exam: rows of exam.csv; empty without an exam.
        verdicts: of answers.md, by run.
        runs: training tokens of each run.
        labels: the name of each task.
        roles: what a corpus is, by its name: the domain, general text.
        overlap: the share of a corpus's held-out text that is in training text.
    """
    parts = [
        bits_lines(scores, roles, overlap),
        exam_lines(exam),
        verdict_lines(verdicts),
        score_lines(scores, runs, labels),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)


def _mark(p: float | None) -> str:
    return "*" if p is not None and p < SIGNIFICANT else ""
