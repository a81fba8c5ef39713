"""Where a claim's numbers come from: the paper's own, or this experiment's results, asked in the same way."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from cpt.report.resampling import relative_change_interval
from cpt.report.rows import Row
from cpt.report.scores import averages, base_run, pairs_of, shown_rows


class Unknown(Exception):
    """A number that isn't there; the message says why."""


class Measured:
    """A number with its 95 % interval and items, where it has them."""

    def __init__(self, value: float, interval: tuple[float, float] | None = None, n: int | None = None):
        self.value, self.interval, self.n = float(value), interval, n


class Evidence(Protocol):
    """What the functions of claims ask for. Runs go by the paper's names; each method may raise Unknown."""

    def score(self, run: str, task: str) -> Measured:
        """Score of a run on a task."""

    def average(self, run: str) -> Measured:
        """Unweighted mean over the tasks."""

    def change(self, run: str, tasks: Sequence[str]) -> Measured:
        """Change in % of the mean score over tasks, against the base model."""

    def items(self, task: str) -> int:
        """Items of a task."""

    def majority(self, task: str) -> float:
        """Score of always giving the most frequent right choice."""

    def run_value(self, run: str, column: str) -> float:
        """A column of runs.csv."""


def nearest_share(score: float, items: int) -> float:
    """The share of a whole number of `items` that is nearest to a rounded score."""
    return round(score * items) / items


class FromPaper:
    """The paper's numbers: `paper` of claims.yaml and its Table 1.

    Scores are shares of whole numbers of items where one such rounds to the score as printed.
    """

    def __init__(self, paper: dict[str, Any], published: dict[str, dict[str, float]]):
        self.paper, self.published = paper, published

    def score(self, run: str, task: str) -> Measured:
        return Measured(nearest_share(self.published[run][task], self.items(task)))

    def average(self, run: str) -> Measured:
        scores = [self.published[run][task] for task in self.paper["items"]]
        return Measured(sum(scores) / len(scores))

    def change(self, run: str, tasks: Sequence[str]) -> Measured:
        before, after = (sum(self.published[name][task] for task in tasks) for name in ("base", run))
        return Measured(100 * (after / before - 1))

    def items(self, task: str) -> int:
        return self.paper["items"][task]

    def majority(self, task: str) -> float:
        return self.paper["majority"][task] / self.items(task)

    def run_value(self, run: str, column: str) -> float:
        paper = self.paper
        stated = paper["runs"][run]
        if column in stated:
            return stated[column]
        sequences = paper["micro_batch"] * paper["accumulate"] * stated["processes"]
        per_process = stated["tokens"] / (3600 * stated["hours"] * stated["processes"])
        derived = {
            "parameters": paper["parameters"],
            "tokens_per_parameter": stated["tokens"] / paper["parameters"],
            "tokens_per_step": sequences * paper["sequence_length"],
            "steps": math.ceil(stated["tokens"] / paper["sequence_length"] / sequences),
            "tokens_per_second_per_process": per_process,
            "utilization": per_process * paper["flops_per_token"] / paper["peak_flops"],
        }
        return derived[column]


class FromResults:
    """This experiment's scores.csv and runs.csv; `tasks` are the columns of Table 1, and `names` maps the
    paper's runs to those in their place."""

    def __init__(
        self,
        scores: list[Row],
        runs: dict[str, Row],
        tasks: list[str],
        names: dict[str, str],
        seed: int,
    ):
        self.rows, self.averages = shown_rows(scores), averages(scores)
        self.runs, self.tasks, self.names, self.seed = runs, tasks, names, seed

    def _name(self, run: str) -> str:
        if run not in self.names:
            raise Unknown(f"no run stands for {run}")
        return self.names[run]

    def _row(self, run: str, task: str) -> Row:
        if (self._name(run), task) not in self.rows:
            raise Unknown(f"{task} isn't scored")
        return self.rows[self._name(run), task]

    def score(self, run: str, task: str) -> Measured:
        row = self._row(run, task)
        return Measured(row["score"], (row["ci_low"], row["ci_high"]), row["n"])

    def average(self, run: str) -> Measured:
        for task in self.tasks:
            self._row(run, task)
        row = self.averages[self._name(run)]
        return Measured(row["score"], (row["ci_low"], row["ci_high"]), row["n"])

    def change(self, run: str, tasks: Sequence[str]) -> Measured:
        pairs = [pairs_of(self._row(run, task)) for task in tasks]
        before, after = (sum(getattr(each, name) for each in pairs) for name in ("base_score", "run_score"))
        if not before:
            raise Unknown("the base model answers nothing right")
        items = sum(each.n for each in pairs)
        return Measured(100 * (after / before - 1), relative_change_interval(pairs, self.seed), items)

    def items(self, task: str) -> int:
        return self._row("base", task)["n"]

    def majority(self, task: str) -> float:
        return self._row("base", task)["majority"]

    def run_value(self, run: str, column: str) -> float:
        name = self._name(run)
        if name not in self.runs:
            raise Unknown(f"{name} wasn't trained here")
        if (value := self.runs[name][column]) is None:
            raise Unknown(f"{column} of {name} isn't known")
        return value


def stand_ins(config: dict[str, Any], budgets: dict[str, int], paper: dict[str, Any]) -> dict[str, str]:
    """Which run of this experiment stands for each of the paper's runs, by the paper's name.

    One of the same budget that was trained from the base model, by the paper's name if there is one; else
    the smallest and the largest budget stand for the paper's two, so that their numbers can be shown (though
    never held against the paper's).
    """
    runs = config["runs"]
    trained = [run for run, tokens in budgets.items() if tokens and not runs[run].get("interpolate")]
    names = {}
    paper_budgets = {name: run["tokens"] for name, run in paper["runs"].items() if run["tokens"]}
    ends = sorted(trained, key=budgets.__getitem__)
    for position, (name, tokens) in enumerate(sorted(paper_budgets.items(), key=lambda item: item[1])):
        same = [run for run in trained if budgets[run] == tokens and not runs[run].get("start_from")]
        if same:
            names[name] = name if name in same else same[0]
        elif len({budgets[run] for run in trained}) > 1:
            names[name] = ends[0] if position == 0 else ends[-1]
    return {**names, "base": base_run(budgets)}
