"""Table 1 as the paper prints it: one row per token budget, one column per task, the mean at the end."""

import csv
from pathlib import Path
from typing import Any

from cpt.files import atomic, write_text
from cpt.report.labels import count_label, run_labels
from cpt.report.rows import Row
from cpt.report.scores import shown_rows

SMALL_BUDGET_SHARE = 0.01  # of the paper's 400M tokens: below it, a table says that it is a demonstration


class Table1:
    """The numbers of Table 1 and the notes that belong under it.

    `scores` are the rows of scores.csv, `runs` objects with name and tokens, `tasks` maps a task to its
    label and metric, `published` maps a run of the paper to its scores.
    """

    def __init__(
        self,
        scores: list[Row],
        runs: list[dict[str, Any]],
        tasks: dict[str, dict[str, str]],
        model: str,
        published: dict[str, dict[str, float]],
    ):
        self.runs, self.tasks, self.model, self.published = runs, tasks, model, published
        self.rows = shown_rows(scores)

    def scores(self, run: str) -> list[float]:
        """A run's scores in the order of the columns, their unweighted mean last."""
        return _with_mean([self.rows[run, task]["score"] for task in self.tasks])

    def published_scores(self, run: str) -> list[float]:
        """The paper's scores of a run, likewise."""
        return _with_mean([self.published[run][task] for task in self.tasks])

    def header(self) -> list[str]:
        """Column titles."""
        return ["CPT tokens", *(task["label"] for task in self.tasks.values()), "Avg"]

    def body(self) -> list[list[str]]:
        """Our rows as text, scores to four decimals."""
        labels = run_labels(self.runs)
        return [
            [label, *_decimals(self.scores(run["name"]))]
            for label, run in zip(labels, self.runs, strict=True)
        ]

    def published_body(self) -> list[list[str]]:
        """The paper's rows as text; its budgets are approximate."""
        return [
            [
                f"≈ {count_label(of_run['tokens'])}" if of_run["tokens"] else "0 (base)",
                *_decimals(self.published_scores(run)),
            ]
            for run, of_run in self.published.items()
        ]

    def notes(self) -> list[str]:
        """Sentences on what the table shows: model, metrics, items, uncertainty, size of the budgets."""
        rows = list(self.rows.values())
        notes = [f"Base model: {self.model}. Zero-shot."]
        labels_of: dict[str, list[str]] = {}
        for task in self.tasks.values():
            labels_of.setdefault(task["metric"], []).append(task["label"])
        named = [f"{metric} for {', '.join(labels)}" for metric, labels in sorted(labels_of.items())]
        notes.append(f"Metric: {'; '.join(named)}. Avg: unweighted mean over the tasks.")
        half_width = max((row["ci_high"] - row["ci_low"]) / 2 for row in rows)
        uncertainty = f"95 % confidence intervals of single scores reach ± {half_width:.3f}"
        if any(row["n"] < row["items_of_full"] for row in rows):
            subsets = {
                self.tasks[row["task"]]["label"]: f"{row['n']:,} of {row['items_of_full']:,}" for row in rows
            }
            listed = ", ".join(f"{label} {subset}" for label, subset in subsets.items())
            notes.append(
                f"Limited evaluation: a fixed random subset of each task was scored (items: {listed}). "
                f"{uncertainty}, so smaller differences between rows may be chance."
            )
        else:
            notes.append(f"All items of every task. {uncertainty}.")
        largest = max(run["tokens"] for run in self.runs)
        of_paper = min((run["tokens"] for run in self.published.values() if run["tokens"]), default=0)
        if largest < SMALL_BUDGET_SHARE * of_paper:
            notes.append(
                f"Demonstration only: the largest budget is {largest:,} tokens, "
                f"{100 * largest / of_paper:.2g} % of the paper's {count_label(of_paper)}."
            )
        return notes


def _with_mean(values: list[float]) -> list[float]:
    return [*values, sum(values) / len(values)]


def _decimals(values: list[float]) -> list[str]:
    return [f"{value:.4f}" for value in values]


def write_csv(path: Path, table: Table1) -> None:
    """Write run, tokens, one column per task, average; four decimals."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "tokens", *table.tasks, "average"])
        for run in table.runs:
            writer.writerow([run["name"], run["tokens"], *_decimals(table.scores(run["name"]))])


def write_markdown(path: Path, table: Table1) -> None:
    """Write a table of this experiment, its notes, and the published table under a rule."""

    def lines(rows: list[list[str]]) -> list[str]:
        header = table.header()
        grid = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in grid]

    text = [
        "**Table 1.** Benchmark scores of this experiment by tokens of continued pre-training (CPT).",
        "",
        *lines(table.body()),
        "",
        *(f"- {note}" for note in table.notes()),
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
    | {"±": r"$\pm$"}
    | {character: "\\" + character for character in "&%$#_{}"}
)


def write_latex(path: Path, table: Table1) -> None:
    """Write a LaTeX table (packages booktabs and threeparttable); the published rows stand apart."""

    def lines(rows: list[list[str]]) -> list[str]:
        return [" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in rows]

    columns = len(table.header())
    span = rf"\multicolumn{{{columns}}}{{@{{}}l}}"
    text = [
        r"\begin{table}",
        r"\centering",
        r"\begin{threeparttable}",
        r"\caption{Benchmark scores by tokens of continued pre-training (CPT).}",
        r"\label{tab:scores}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (columns - 1)}@{{}}}}",
        r"\toprule",
        *lines([table.header()]),
        r"\midrule",
        span + r"{\emph{This experiment}} \\",
        *lines(table.body()),
        r"\midrule",
        span + r"{\emph{Published (Table 1 of the paper)}} \\",
        *lines(table.published_body()),
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tablenotes}\footnotesize",
        *(rf"\item {note.translate(_LATEX)}" for note in table.notes()),
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    write_text(path, "\n".join(text) + "\n")
