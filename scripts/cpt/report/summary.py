"""What moved, as plain text of at most 80 columns: what the terminal shows when an experiment is finished."""

import textwrap
from collections.abc import Sequence

from cpt.report.exam import BASE, CHANCE, TRAINED, WITH_DOCUMENT
from cpt.report.labels import MINUS
from cpt.report.rows import Row
from cpt.report.scores import BITS_PER_BYTE, LOWER, averages, base_run, shown_rows
from cpt.report.statistics import SIGNIFICANT

WIDTH = 80  # columns
NAME = 26  # of them for the name of a row, at most


def grid(names: Sequence[str], columns: dict[str, Sequence[str]]) -> list[str]:
    """Lines of a table: names of rows left, columns right-aligned; in blocks where they don't fit beside one
    another.

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


def bits_lines(scores: list[Row], runs: dict[str, int], roles: dict[str, str]) -> list[str]:
    """Bits per byte of held-out text: each corpus, and its change by each run. `roles` says what each is."""
    found = {(row["run"], row["task"]): row for row in scores if row["task"].startswith(f"{BITS_PER_BYTE}.")}
    tasks = list(dict.fromkeys(task for _, task in found))
    if not tasks:
        return []
    names = [_named(task.removeprefix(f"{BITS_PER_BYTE}."), roles) for task in tasks]

    def cell(row: Row, tokens: int) -> str:
        change = 100 * row["difference"] / row["base_score"]
        return f"{row['score']:.3f}" + (f" ({_signed(change, 1)} %)" if tokens else "")

    columns = {run: [cell(found[run, task], tokens) for task in tasks] for run, tokens in runs.items()}
    return ["Held-out text, bits per byte (lower is better)", *grid(names, columns)]


def _named(corpus: str, roles: dict[str, str]) -> str:
    return f"{corpus} ({roles[corpus]})" if corpus in roles else corpus


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
    """Table 1 turned round: a row for each task, a column for each run."""
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
) -> str:
    """All parts of the summary that there are.

    Args:
        scores: rows of scores.csv.
        exam: rows of exam.csv; empty without an exam.
        verdicts: of answers.md, by run.
        runs: training tokens of each run.
        labels: the name of each task.
        roles: what a corpus is, by its name: the domain, general text.
    """
    parts = [
        bits_lines(scores, runs, roles),
        exam_lines(exam),
        verdict_lines(verdicts),
        score_lines(scores, runs, labels),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)


def _mark(p: float | None) -> str:
    return "*" if p is not None and p < SIGNIFICANT else ""
