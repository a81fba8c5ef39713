"""How a run changes the likelihood of right and wrong answers, item by item, and what that shows.

Accuracy only changes if the order of the choices does. Log-likelihoods change on every item, so they resolve
far smaller changes; the wrong answers are the control. Formulas: docs/statistics.md.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpt.report.comparisons import adjust, mean
from cpt.report.rows import Row, read_typed
from cpt.report.samples import Answers, Choices, distinct, require_same_items
from cpt.report.scores import AVERAGE, base_run
from cpt.report.statistics import SIGNIFICANT

RIGHT, WRONG, MARGIN = "right", "wrong", "margin"
QUANTITIES = {
    RIGHT: "log-probability of the right answer (nats)",
    WRONG: "mean log-probability of the wrong answers (nats)",
    MARGIN: "right less wrong (nats)",
    "probability": "probability of the right answer among the choices",
    "bits_per_byte": "bits per byte of the right answer",
}
COLUMNS = (
    "run", "tokens", "task", "quantity", "n", "base_mean", "mean", "difference", "standard_error", "ci_low",
    "ci_high", "p", "p_holm", "detectable_difference",
)  # fmt: skip


def quantities_of(choices: Choices) -> np.ndarray:
    """The quantities of each item, float64 [items, QUANTITIES]; meaningless for an item with one choice."""
    items = np.arange(len(choices.gold))
    likely = choices.loglikelihoods  # [items, choices]
    right = likely[items, choices.gold]
    wrong = (np.nansum(likely, 1) - right) / np.maximum(choices.number - 1, 1)
    shares = np.exp(likely - np.nanmax(likely, 1, keepdims=True))
    probability = shares[items, choices.gold] / np.nansum(shares, 1)
    return np.stack([right, wrong, right - wrong, probability, choices.bits_per_byte], 1)


class Change(NamedTuple):
    """A mean of paired differences: its error, and the degrees of freedom of that error's estimate."""

    n: int
    base_mean: float
    mean: float
    error: float
    degrees: float

    def row(self) -> Row:
        """Interval, p and detectable difference of Student's t."""
        from scipy.stats import t  # here, since it takes a second to load

        difference = self.mean - self.base_mean
        row: Row = {"n": self.n, "base_mean": self.base_mean, "mean": self.mean, "difference": difference}
        if not self.degrees:  # a single item
            return row
        half = t.ppf(0.975, self.degrees) * self.error
        # Without spread, there is either no change or a certain one.
        statistic = abs(difference) / self.error if self.error else math.inf if difference else 0.0
        p = 2 * t.sf(statistic, self.degrees)
        reach = (t.ppf(0.975, self.degrees) + t.ppf(0.8, self.degrees)) * self.error
        row |= {"standard_error": self.error, "ci_low": difference - half, "ci_high": difference + half}
        return row | {"p": float(p), "detectable_difference": float(reach)}


def change_of(base: np.ndarray, run: np.ndarray) -> Change:
    """The change of one quantity, float64 [items] in each run."""
    n, changes = len(base), run - base
    error = float(changes.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Change(n, float(base.mean()), float(run.mean()), error, n - 1)


def mean_change(changes: list[Change]) -> Change:
    """The unweighted mean over tasks, with Satterthwaite's degrees of freedom (1946)."""
    variances = [change.error**2 for change in changes]
    parts = sum(v**2 / change.degrees for v, change in zip(variances, changes, strict=True) if v)
    total = sum(variances)
    return Change(
        sum(change.n for change in changes),
        mean([change.base_mean for change in changes]),
        mean([change.mean for change in changes]),
        math.sqrt(total) / len(changes),
        total**2 / parts if parts else min(change.degrees for change in changes),
    )


def likelihood_rows(runs: dict[str, int], answers: dict[tuple[str, str], Answers]) -> list[Row]:
    """All rows of answers.csv: each trained run, task with choices, and quantity, against the base model.

    The Holm family is all runs and tasks of one quantity. The means over tasks are a family of their own; of
    tasks with the same questions, they include only the first. Items are skipped if they have a single
    choice, or several right answers of which the two runs prefer different ones.

    Args:
        runs: training tokens of each run.
        answers: of each run to each task.

    Raises:
        UserError: runs weren't scored on the same items.
    """
    base, rows = base_run(runs), []
    tasks = [task for run, task in answers if run == base and answers[run, task].choices]
    averaged = distinct({task: answers[base, task] for task in tasks})
    for run in (run for run, tokens in runs.items() if tokens):
        changes: dict[str, list[Change]] = {quantity: [] for quantity in QUANTITIES}
        for task in tasks:
            theirs, ours = answers[base, task], answers[run, task]
            require_same_items(theirs, ours)
            same = (theirs.choices.gold == ours.choices.gold) & (ours.choices.number > 1)
            before, after = quantities_of(theirs.choices)[same], quantities_of(ours.choices)[same]
            if not same.any():
                continue
            for column, quantity in enumerate(QUANTITIES):
                change = change_of(before[:, column], after[:, column])
                rows.append({"run": run, "tokens": runs[run], "task": task, "quantity": quantity})
                rows[-1] |= change.row()
                if task in averaged:
                    changes[quantity].append(change)
        for quantity, task_changes in changes.items():
            if task_changes:
                rows.append({"run": run, "tokens": runs[run], "task": AVERAGE, "quantity": quantity})
                rows[-1] |= mean_change(task_changes).row()
    for quantity in QUANTITIES:
        for average in (False, True):
            adjust([r for r in rows if r["quantity"] == quantity and (r["task"] == AVERAGE) == average], "p")
    return rows


def read_likelihoods(path: Path) -> list[Row]:
    """Read answers.csv; empty if there are no trained runs or no tasks with choices."""
    if len(path.read_text(encoding="utf-8").splitlines()) < 2:
        return []
    return read_typed(path, COLUMNS, {"run", "task", "quantity"})


def verdicts(rows: list[Row], labels: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What each run's changes show, in words: (run, sentences).

    Args:
        rows: of answers.csv.
        labels: the name of each task.
    """
    for run in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == run]
        yield run, _verdict({name: _Moved(mine, name, labels) for name in (RIGHT, WRONG, MARGIN)})


class _Moved:
    """The tasks on which one quantity changes (p after Holm below 0.05), including the mean over tasks."""

    def __init__(self, rows: list[Row], quantity: str, labels: dict[str, str]):
        self.rows = [row for row in rows if row["quantity"] == quantity]
        self.labels = {**labels, AVERAGE: "the mean over the tasks"}
        self.tasks = [row for row in self.rows if row["task"] != AVERAGE]
        resolved = [row for row in self.rows if row.get("p_holm") is not None]
        resolved = [row for row in resolved if row["p_holm"] < SIGNIFICANT]
        self.up = [row for row in resolved if row["difference"] > 0]
        self.down = [row for row in resolved if row["difference"] < 0]

    def on(self, rows: list[Row]) -> str:
        """`on 3 of 7 tasks (MMLU, ...; p <= 0.034 after Holm)`, or in the mean over the tasks alone."""
        tasks = [row for row in rows if row["task"] != AVERAGE]
        p = _p(max(row["p_holm"] for row in tasks or rows), "\N{LESS-THAN OR EQUAL TO}")
        if not tasks:
            return f"in the mean over the tasks ({_signed(rows[0]['difference'])} nats, p {p} after Holm)"
        names = ", ".join(self.labels[row["task"]] for row in tasks)
        some = f"{names}; " if len(tasks) < len(self.tasks) else ""
        return f"on {len(tasks)} of {_tasks(len(self.tasks))} ({some}p {p} after Holm)"

    def reach(self) -> str:
        """The smallest and the largest change that a task could have shown, in nats."""
        detectable = sorted(row["detectable_difference"] for row in self.tasks if row.get("p") is not None)
        if not detectable:
            return "no change at all (single items)"
        low, high = _rounded(detectable[0]), _rounded(detectable[-1])
        return f"{low} nats" if low == high else f"{low} to {high} nats"

    def least_p(self) -> str:
        """The smallest p after Holm."""
        least = min((row["p_holm"] for row in self.tasks if row.get("p_holm") is not None), default=1.0)
        return f"{least:.2g}"

    def mean(self) -> str:
        """The change in the mean over the tasks."""
        return _signed(next(row["difference"] for row in self.rows if row["task"] == AVERAGE))


def _verdict(moved: dict[str, _Moved]) -> str:
    right, wrong, margin = moved[RIGHT], moved[WRONG], moved[MARGIN]
    means = (
        f"In the mean over the tasks, right answers change by {right.mean()} and wrong ones by "
        f"{wrong.mean()} nats."
    )
    power = f"A change of {margin.reach()} by task would have been found with 80 % power."
    if margin.up and margin.down:
        return (
            f"Right answers gain on the wrong ones {margin.on(margin.up)} and lose against them "
            f"{margin.on(margin.down)}: some knowledge may be gained and some lost."
        )
    if margin.up:
        return (
            f"Right answers gain on the wrong ones {margin.on(margin.up)}. {means} Adaptation to the format "
            "of the answers raises both alike; what right ones gain beyond it looks like knowledge."
        )
    if margin.down:
        return (
            f"Right answers lose against the wrong ones {margin.on(margin.down)}. {means} This looks like "
            "forgetting."
        )
    still = f"right less wrong changes on none (smallest p {margin.least_p()} after Holm). {power}"
    if right.up or right.down:
        word, changed = ("likelier", right.up) if right.up else ("less likely", right.down)
        followers = wrong.up if right.up else wrong.down
        if not followers:
            return (
                f"Right answers become {word} {right.on(changed)}; wrong ones don't follow, and {still} So "
                "it isn't resolved whether this is the format of the answers or knowledge."
            )
        wrong_ones = f"so do wrong ones {wrong.on(followers)}"
        meaning = (
            "This shows adaptation to the format of the answers, not knowledge."
            if right.up
            else "This shows another format of the answers, not forgetting."
        )
        return f"Right answers become {word} {right.on(changed)}, {wrong_ones}, and {still} {meaning}"
    return (
        f"Nothing is resolved: right answers change on none of {_tasks(len(right.tasks))} (smallest p "
        f"{right.least_p()} after Holm; {right.reach()} by task would have been found with 80 % power), and "
        f"{still}"
    )


def _tasks(count: int) -> str:
    return f"{count} task{'s' if count != 1 else ''}"


def _p(value: float, sign: str) -> str:
    return "< 0.001" if value < 0.001 else f"{sign} {value:.2g}"


def _rounded(value: float, sign: str = "-") -> str:
    """Two digits, or whole nats from 100 on; `sign` as in a format."""
    return f"{value:{sign}.0f}" if abs(value) >= 99.5 else f"{value:{sign}.2g}"


def _signed(value: float) -> str:
    return _rounded(value, "+").replace("-", "\N{MINUS SIGN}")


def text_of(rows: list[Row], labels: dict[str, str]) -> str:
    """answers.md: what each run's changes show (a line `- **run**: ...`), and a table of them."""
    if not rows:
        return "No trained run, or no task with choices: nothing to compare.\n"
    lines = [f"- **{run}**: {sentences}" for run, sentences in verdicts(rows, labels)]
    names = {**labels, AVERAGE: "Mean over the tasks"}
    lines += [
        "",
        "| run | task | items | right | wrong | right less wrong | 95 % CI | p (Holm) | detectable | "
        "probability | bits per byte |",
        "| --- | --- | ---: | ---: | ---: | ---: | :---: | ---: | ---: | ---: | ---: |",
    ]
    index = {(row["run"], row["task"], row["quantity"]): row for row in rows}
    for run, task in dict.fromkeys((row["run"], row["task"]) for row in rows):
        rows_by_quantity = {quantity: index[run, task, quantity] for quantity in QUANTITIES}
        margin = rows_by_quantity[MARGIN]
        starred = {name: _starred(row) for name, row in rows_by_quantity.items()}
        tested = margin.get("p_holm") is not None
        cells = [
            run,
            names[task],
            f"{margin['n']:,}",
            *(starred.pop(name) for name in (RIGHT, WRONG, MARGIN)),
            f"{_signed(margin['ci_low'])} to {_signed(margin['ci_high'])}" if tested else "",
            f"{margin['p_holm']:.3g}" if tested else "",
            _rounded(margin["detectable_difference"]) if tested else "",
            *starred.values(),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Change of the mean log-probability against the base model on the same items, in nats: of the right "
        "answer, of the wrong ones, and of one less the other, with the last one's interval, p, and smallest "
        "change that is found with 80 % power. Then of the right answer's probability among the choices, and "
        f"of its bits per byte (lower is better). \\*: p after Holm below {SIGNIFICANT} (paired t test).",
    ]
    return "\n".join(lines) + "\n"


def _starred(row: Row) -> str:
    p = row.get("p_holm")
    return _signed(row["difference"]) + (r"\*" if p is not None and p < SIGNIFICANT else "")


def read_verdicts(path: Path) -> dict[str, str]:
    """The sentences of answers.md by run."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line[4:].split("**: ", 1) for line in lines if line.startswith("- **"))
