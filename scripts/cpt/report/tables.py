"""Table 1 as the paper prints it: one row per token budget, one column per task, the mean at the end."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cpt.config_evaluate import Task
from cpt.files import write_text
from cpt.report.labels import MINUS, count_label, run_labels
from cpt.report.rows import Row, write_rows
from cpt.report.scores import AVERAGE, LOWER, SIGN_FLIPS, averages, shown_rows
from cpt.report.statistics import SIGNIFICANT

MARK, NONE = "*", "\N{EN DASH}"
OF_SCORE = ("ci_low", "ci_high", "difference", "difference_ci_low", "difference_ci_high")
OF_SCORE += ("mcnemar_p_holm", "null_score", "published")
SMALL_BUDGET_SHARE = 0.01  # of the paper's smallest budget: below it, a table says that it is a demonstration


class Table1:
    """The numbers of Table 1 and the notes that belong under it.

    Args:
        scores: rows of scores.csv.
        runs: training tokens of each run.
        tasks: those that are columns.
        model: name of the base model.
        published: scores of each run of the paper.
        sums: sentences on the runs that are sums of models.
    """

    def __init__(
        self,
        scores: list[Row],
        runs: dict[str, int],
        tasks: dict[str, Task],
        model: str,
        published: dict[str, dict[str, float]],
        sums: Sequence[str] = (),
    ):
        self.sums = sums
        self.runs, self.tasks, self.model, self.published = runs, tasks, model, published
        self.rows = shown_rows(scores)
        self.averages = averages(scores)
        self.base = {task: self.rows[next(iter(runs)), task] for task in tasks}
        # The mean is over metrics like an accuracy; there may be none.
        self.columns = [*tasks, *([AVERAGE] if self.averages else [])]

    @property
    def averaged(self) -> list[str]:
        """The columns that the average is over."""
        return [task for task, row in self.base.items() if row["averaged"]]

    def title(self, task: str) -> str:
        """Title of a column."""
        if task == AVERAGE:
            return "Avg"
        return self.tasks[task].label + ("" if self.base[task]["higher_is_better"] else f" {LOWER}")

    def header(self) -> list[str]:
        """Column titles."""
        return ["CPT tokens", *map(self.title, self.columns)]

    def row_of(self, run: str, task: str) -> Row:
        """The row of scores.csv behind a cell; for the last column, that of the average."""
        return self.averages[run] if task == AVERAGE else self.rows[run, task]

    def body(self) -> list[list[str]]:
        """Our rows as text: scores to four decimals, marked if they differ from the base model's after Holm's
        adjustment; half the width of their 95 % intervals; changes and the same for them."""
        lines = []
        for run, label in run_labels(self.runs).items():
            cells = [self.row_of(run, task) for task in self.columns]
            lines.append([label, *(_score(row) for row in cells)])
            lines.append(["  95 % CI", *(_half(row, "ci_low", "ci_high") for row in cells)])
            if self.runs[run]:
                widths = [_half(row, "difference_ci_low", "difference_ci_high") for row in cells]
                lines.append(["  change", *map(_change, cells)])
                lines.append(["  95 % CI", *widths])
        return [[label, *(cell.replace("-", MINUS) for cell in cells)] for label, *cells in lines]

    def null_body(self) -> list[list[str]]:
        """What answering without reading the question scores."""
        base = next(iter(self.runs))
        rows = [self.row_of(base, task) for task in self.columns]
        names = {"chance": "chance", "majority": "same choice", "longest": "longest"}
        return [
            [label, *(NONE if row[name] is None else f"{row[name]:.4f}" for row in rows)]
            for name, label in names.items()
            if any(row["chance"] is not None for row in rows)
        ]

    def published_body(self) -> list[list[str]]:
        """The paper's rows as text; its budgets are approximate. A task that it doesn't have is a dash, and
        then so is the mean."""
        lines = []
        for published in self.published.values():
            scores = [published.get(task, math.nan) for task in self.tasks]
            if self.averages:
                averaged = [published.get(task, math.nan) for task in self.averaged]
                scores.append(sum(averaged) / len(averaged))
            label = f"≈ {count_label(published['tokens'])}" if published["tokens"] else "0 (base)"
            lines.append([label, *(NONE if math.isnan(score) else f"{score:.4f}" for score in scores)])
        return lines

    def notes(self) -> list[str]:
        """Sentences on what the table shows: model, metrics, items, uncertainty, size of the budgets."""
        notes = [f"Base model: {self.model}. {self._shots()}", self._metrics()]
        notes += [*self.sums, self._limited(), *self._cut(), *self._tests()]
        if any(row["majority"] is not None for row in self.base.values()):
            notes.append(
                "Same choice: always giving the one (letter, position) that is right most often. Longest: "
                "always giving the answer with the most characters."
            )
        if unlike := self._not_above():
            notes.append(
                f"Not above the best score without reading (exact tests, p below {SIGNIFICANT}): {unlike}."
            )
        largest = max(self.runs.values())
        smallest = min((run["tokens"] for run in self.published.values() if run["tokens"]), default=0)
        if largest < SMALL_BUDGET_SHARE * smallest:
            notes.append(
                f"Demonstration only: the largest budget is {largest:,} tokens, "
                f"{100 * largest / smallest:.2g} % of the paper's {count_label(smallest)}."
            )
        return notes

    def _labels(self, tasks: Iterable[str]) -> str:
        return ", ".join(self.tasks[task].label for task in tasks)

    def _grouped(self, column: str) -> dict[Any, str]:
        """The labels of the tasks by what their rows have in a column."""
        groups: dict[Any, list[str]] = {}
        for task, row in self.base.items():
            groups.setdefault(row[column], []).append(task)
        return {value: self._labels(groups[value]) for value in sorted(groups)}

    def _shots(self) -> str:
        shots = self._grouped("shots")
        if list(shots) == [0]:
            return "Zero-shot."
        parts = [f"{count or 'none'} for {labels}" for count, labels in shots.items()]
        return f"Worked examples before each question (shots): {'; '.join(parts)}."

    def _metrics(self) -> str:
        parts = [f"{metric} for {labels}" for metric, labels in self._grouped("metric").items()]
        note = f"Metric: {'; '.join(parts)}."
        if not self.averages:
            return f"{note} No average: it is over scores between 0 and 1."
        averaged = self.averaged
        if len(averaged) == len(self.tasks):
            return f"{note} Avg: unweighted mean over the tasks."
        others = self._labels(task for task in self.tasks if task not in averaged)
        return (
            f"{note} Avg: unweighted mean over {self._labels(averaged)}; {others} {_verb(others)} not in it, "
            "which has scores of items between 0 and 1 alone, and each question once. "
            f"{LOWER}: lower is better."
        )

    def _limited(self) -> str:
        """How many items were scored, and how uncertain scores are."""
        rows = list(self.rows.values())
        widths = [(row["ci_high"] - row["ci_low"]) / 2 for row in rows if row["averaged"]]
        uncertainty = (
            f" 95 % confidence intervals of single scores reach ± {max(widths):.3f}" if widths else ""
        )
        if all(row["n"] == row["items_of_full"] for row in rows):
            return f"All items of every task.{uncertainty}{'.' if uncertainty else ''}"
        subsets = {self.tasks[row["task"]].label: f"{row['n']:,} of {row['items_of_full']:,}" for row in rows}
        listed = ", ".join(f"{label} {subset}" for label, subset in subsets.items())
        smaller = f"{uncertainty}, so smaller differences between rows may be chance." if widths else ""
        return (
            f"Limited evaluation: a fixed random subset of each task was scored (items: {listed}).{smaller}"
        )

    def _cut(self) -> list[str]:
        """Items whose beginning was cut off, because they are longer than the model's context."""
        cut = [
            f"{self.tasks[task].label} {row['cut_items']:,} of {row['n']:,}"
            for task, row in self.base.items()
            if row["cut_items"]
        ]
        return [f"Cut at their beginning, to fit into the context: {', '.join(cut)} items."] if cut else []

    def _tests(self) -> list[str]:
        """What the mark means, how it was tested, and which tasks weren't tested."""
        rows = [row for row in self.rows.values() if row["tokens"]]
        tests = {row["task"]: row["test"] for row in rows}
        flipped = self._labels(task for task, test in tests.items() if test == SIGN_FLIPS)
        single = self._labels(task for task, test in tests.items() if not test)
        by_flips = ", ".join(filter(None, ["Avg" if self.averages else "", flipped]))
        notes = [
            f"{MARK}: differs from the base model on the same items (McNemar's exact test, p below "
            f"{SIGNIFICANT} after Holm's adjustment over all runs and tasks"
            f"{f'; {by_flips}: random sign flips' if by_flips else ''}). "
            "Intervals: half their width, of scores after Wilson, of changes by a paired bootstrap."
        ]
        if flipped:
            notes.append(f"Intervals of scores of {flipped}: by a bootstrap over items.")
        if single:
            notes.append(
                f"Not tested: {single}. The metric is computed from all items at once, so there are no "
                "values of single items to compare; the interval is that of lm-eval's standard error."
            )
        return notes

    def _not_above(self) -> str:
        """The scores that aren't above the strongest null, by task: `MMLU (0 (base), 400M; always D)`."""
        labels = run_labels(self.runs)
        tasks = []
        for task, settings in self.tasks.items():
            rows = [self.rows[run, task] for run in labels if self.rows[run, task]["above_null"] is False]
            if rows:
                null = rows[0]["null"].replace("_", " ")
                tasks.append(f"{settings.label} ({', '.join(labels[row['run']] for row in rows)}; {null})")
        return ", ".join(tasks)


def _verb(labels: str) -> str:
    return "are" if ", " in labels else "is"


def _digits(row: Row) -> int:
    """Decimals of a score: four, fewer of one above 10 (a perplexity)."""
    return max(0, 4 - max(0, math.floor(math.log10(max(1, abs(row["score"] or 0))))))


def _change(row: Row) -> str:
    return NONE if row["difference"] is None else f"{row['difference']:+.{_digits(row)}f}"


def _score(row: Row) -> str:
    if row["score"] is None:
        return NONE
    p = row["mcnemar_p_holm"]
    return f"{row['score']:.{_digits(row)}f}" + (MARK if p is not None and p < SIGNIFICANT else "")


def _half(row: Row, low: str, high: str) -> str:
    """Half an interval's width, with a decimal less than the score."""
    if row[low] is None:
        return NONE
    return f"\N{PLUS-MINUS SIGN}{(row[high] - row[low]) / 2:.{max(0, _digits(row) - 1)}f}"


def write_csv(path: Path, table: Table1) -> None:
    """Write run, tokens, one column per task, average; then, for each of these, its interval, the change
    against the base model with its interval and Holm's p, the best score without reading, and the published
    score where this is the same model."""
    columns = table.columns
    rows = []
    for run, tokens in table.runs.items():
        cells = {task: table.row_of(run, task) for task in columns}
        row: Row = {"run": run, "tokens": tokens}
        row |= {
            task: None if cell["score"] is None else f"{cell['score']:.4f}" for task, cell in cells.items()
        }
        for task, cell in cells.items():
            row |= {f"{task}_{name}": cell[name] for name in OF_SCORE}
        rows.append(row)
    write_rows(path, tuple(rows[0]), rows)


_MARKDOWN = str.maketrans({"|": r"\|", "*": r"\*"})


def write_markdown(path: Path, table: Table1) -> None:
    """Write a table of this experiment, its notes, and the published table under a rule."""

    def lines(rows: list[list[str]]) -> list[str]:
        header = table.header()
        grid = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        return ["| " + " | ".join(cell.translate(_MARKDOWN) for cell in row) + " |" for row in grid]

    text = [
        "**Table 1.** Benchmark scores of this experiment by tokens of continued pre-training (CPT).",
        "",
        *lines([*table.body(), *table.null_body()]),
        "",
        *(f"- {note.translate(_MARKDOWN)}" for note in table.notes()),
        "",
        "---",
        "",
        "**Published** (Table 1 of the paper; another base model or other items make it no like-for-like "
        "comparison).",
        "",
        *lines(table.published_body()),
    ]
    write_text(path, "\n".join(text) + "\n")


_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "≈": r"$\approx$"}
    | {LOWER: r"$\downarrow$"}
    | {"±": r"$\pm$", MINUS: "$-$", NONE: "--"}
    | {character: "\\" + character for character in "&%$#_{}"}
)


def _latex_cell(text: str) -> str:
    """A cell in LaTeX; its mark takes no width, so that numbers stay aligned."""
    return text.translate(_LATEX).replace(MARK, r"\rlap{$^*$}").replace("  ", r"\quad ")


def write_latex(path: Path, table: Table1) -> None:
    """Write a LaTeX table (package booktabs), of the width of `article`; the published rows are set apart."""

    def lines(rows: list[list[str]]) -> list[str]:
        cells = [[_latex_cell(cell) for cell in row] for row in rows]
        return [" & ".join(row) + r" \\" for row in cells]

    columns = len(table.header())
    span = rf"\multicolumn{{{columns}}}{{@{{}}l}}"
    text = [
        r"\begin{table}",
        r"\centering",
        r"\caption{Benchmark scores by tokens of continued pre-training (CPT).}",
        r"\label{tab:scores}",
        r"\footnotesize\setlength{\tabcolsep}{2.7pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (columns - 1)}@{{}}}}",
        r"\toprule",
        *lines([table.header()]),
        r"\midrule",
        span + r"{\emph{This experiment}} \\",
        *lines(table.body()),
        r"\midrule",
        span + r"{\emph{Without reading the question}} \\",
        *lines(table.null_body()),
        r"\midrule",
        span + r"{\emph{Published (Table 1 of the paper)}} \\",
        *lines(table.published_body()),
        r"\bottomrule",
        r"\end{tabular}",
        r"",
        r"\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *(note.translate(_LATEX) for note in table.notes()),
        r"\end{minipage}",
        r"\end{table}",
    ]
    write_text(path, "\n".join(text) + "\n")
