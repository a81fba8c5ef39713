"""Sources of a claim's numbers: the paper, or this experiment's results, with the same functions."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

from cpt.mixtures import default_mixture
from cpt.report.labels import count_label, model_name
from cpt.report.resampling import relative_change_interval
from cpt.report.rows import Row
from cpt.report.scores import averages, pairs_of, shown_rows
from cpt.sizes import sequences_per_step


class Unknown(Exception):
    """A number that isn't there; the message says why."""


class Measured:
    """A number, with its 95 % interval and its number of items if it has them."""

    def __init__(self, value: float, interval: tuple[float, float] | None = None, n: int | None = None):
        self.value, self.interval, self.n = float(value), interval, n


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# Possible meanings of "benchmarks change by x %", as functions of the scores before and after.
CHANGES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "change": lambda before, after: 100 * (sum(after) / sum(before) - 1),
    "mean_change": lambda before, after: _mean(
        [100 * (now / then - 1) for then, now in zip(before, after, strict=True)]
    ),
    "points": lambda before, after: 100 * (_mean(after) - _mean(before)),
}
ROUNDING = 0.00005  # half of the last digit of Table 1's scores
CLEAR = 2  # standard errors


class Evidence(ABC):
    """The functions of claims. Runs have the paper's names; each method may raise Unknown."""

    @abstractmethod
    def items(self, task: str) -> int:
        """Items of a task."""

    @abstractmethod
    def majority(self, task: str) -> float:
        """Score of always giving the most frequent right choice."""

    @abstractmethod
    def score(self, run: str, task: str) -> Measured:
        """Score of a run on a task."""

    @abstractmethod
    def average(self, run: str) -> Measured:
        """Unweighted mean over the tasks."""

    @abstractmethod
    def change(self, run: str, tasks: list[str]) -> Measured:
        """Change in % of the mean score over tasks, against the base model."""

    @abstractmethod
    def run_value(self, run: str, column: str) -> Measured:
        """A column of the table of runs."""

    def _scores(self, run: str, tasks: Sequence[str]) -> list[float]:
        return [self.score(run, task).value for task in tasks]

    def mean_change(self, run: str, tasks: list[str]) -> Measured:
        """Mean over tasks of the change in %, against the base model."""
        before = self._scores("base", tasks)
        if 0 in before:
            raise Unknown("the base model answers nothing right")
        return Measured(CHANGES["mean_change"](before, self._scores(run, tasks)))

    def points(self, run: str, tasks: list[str]) -> Measured:
        """Change of the mean score over tasks in percentage points, against the base model."""
        return Measured(CHANGES["points"](self._scores("base", tasks), self._scores(run, tasks)))

    def average_difference(self, run: str, reference: str) -> Measured:
        """Average of a run less that of another."""
        return Measured(self.average(run).value - self.average(reference).value)

    def rises(self, runs: list[str], tasks: list[str]) -> Measured:
        """How often a score rises from one run to the next, over all tasks."""
        run_scores = [self._scores(run, tasks) for run in runs]
        steps = [step for pair in pairwise(run_scores) for step in zip(*pair, strict=True)]
        return Measured(sum(after > before for before, after in steps))

    def mean_rises(self, runs: list[str], tasks: list[str]) -> Measured:
        """How often the mean score over tasks rises from one run to the next."""
        means = [_mean(self._scores(run, tasks)) for run in runs]
        return Measured(sum(after > before for before, after in pairwise(means)))

    def clear_rises(self, run: str, tasks: list[str]) -> Measured:
        """How many tasks rise from the base model by two standard errors of independent scores, or more."""
        return Measured(sum(self.standard_errors(run, task).value >= CLEAR for task in tasks))

    def gains_over_losses(self, run: str, tasks: list[str], relative: bool = True) -> Measured:
        """Sum of gains over sum of losses against the base model: of relative changes, or of score points."""
        pairs = zip(self._scores("base", tasks), self._scores(run, tasks), strict=True)
        changes = [(after - before) / (before or math.nan if relative else 1) for before, after in pairs]
        losses = -sum(change for change in changes if change < 0)
        if not losses:
            raise Unknown("nothing is lost")
        return Measured(sum(change for change in changes if change > 0) / losses)

    def early_share(self, run: str, last: str, tasks: list[str]) -> Measured:
        """Share in % of the last run's gain, in the mean over tasks, that an earlier run already has."""
        base, early, late = (_mean(self._scores(name, tasks)) for name in ("base", run, last))
        if late <= base:
            raise Unknown("the mean score doesn't rise")
        return Measured(100 * (early - base) / (late - base))

    def items_gained(self, run: str, reference: str, task: str) -> Measured:
        """Right answers of a run less those of another."""
        now, before = (self.items_right(name, task).value for name in (run, reference))
        return Measured(now - before, n=self.items(task))

    def scaling(self, run: str, reference: str, extension: bool = False) -> Measured:
        """Tokens per GPU-hour of a run in % of those of a smaller one.

        With `extension`, its hours cover only the tokens beyond the smaller run's.
        """
        tokens, hours = (
            [self.run_value(name, column).value for name in (run, reference)]
            for column in ("tokens", "device_hours")
        )
        covered = tokens[0] - tokens[1] if extension else tokens[0]
        return Measured(100 * (covered / hours[0]) / (tokens[1] / hours[1]))

    def difference(self, run: str, reference: str, column: str) -> Measured:
        """Difference of two runs in a column."""
        return Measured(self.run_value(run, column).value - self.run_value(reference, column).value)

    def ratio(self, run: str, reference: str, column: str) -> Measured:
        """Ratio of two runs in a column."""
        return Measured(self.run_value(run, column).value / self.run_value(reference, column).value)

    def percent_of(self, run: str, reference: str, column: str) -> Measured:
        """The ratio in %."""
        return Measured(100 * self.ratio(run, reference, column).value)

    def increase(self, run: str, reference: str, column: str) -> Measured:
        """By how many % a run is above another in a column."""
        return Measured(self.percent_of(run, reference, column).value - 100)

    def decrease(self, run: str, reference: str, column: str) -> Measured:
        """By how many % a run is below another in a column."""
        return Measured(100 - self.percent_of(run, reference, column).value)

    def items_right(self, run: str, task: str) -> Measured:
        """The whole number of items nearest to a score."""
        return Measured(round(self.score(run, task).value * self.items(task)), n=self.items(task))

    def standard_errors(self, run: str, task: str) -> Measured:
        """A run's difference from the base model over the standard error of two independent scores."""
        now, before, n = self.score(run, task).value, self.score("base", task).value, self.items(task)
        error = math.sqrt((now * (1 - now) + before * (1 - before)) / n)
        if not error:
            raise Unknown("all items are right, or all wrong")
        return Measured((now - before) / error, n=n)

    def over_majority(self, run: str, task: str) -> Measured:
        """Score of a run less that of always giving the most frequent right choice."""
        return Measured(self.score(run, task).value - self.majority(task), n=self.items(task))


class FromPaper(Evidence):
    """The paper's numbers: `paper` of claims.yaml and its Table 1.

    A single score is the share of whole items nearest to the printed one. Means use scores as printed.
    """

    def __init__(self, paper: dict[str, Any], published: dict[str, dict[str, float]]):
        self.paper, self.published = paper, published

    def items(self, task: str) -> int:
        return self.paper["items"][task]

    def majority(self, task: str) -> float:
        return self.paper["majority"][task] / self.items(task)

    def score(self, run: str, task: str) -> Measured:
        items = self.items(task)
        return Measured(round(self.published[run][task] * items) / items)

    def average(self, run: str) -> Measured:
        scores = [self.published[run][task] for task in self.paper["items"]]
        return Measured(sum(scores) / len(scores))

    def _scores(self, run: str, tasks: Sequence[str]) -> list[float]:
        return [self.published[run][task] for task in tasks]  # as printed, which its text is likely to use

    def change(self, run: str, tasks: list[str]) -> Measured:
        return Measured(CHANGES["change"](self._scores("base", tasks), self._scores(run, tasks)))

    def fitting_groups(self, changes: dict[str, float], tolerance: float, how: str) -> Measured:
        """Number of subsets of the benchmarks that give all `changes` (of runs, in %, within `tolerance`).

        A subset counts if scores that round to Table 1's can give them. `how` is a key of CHANGES.
        """
        tasks = list(self.paper["items"])
        groups = [group for size in range(1, len(tasks) + 1) for group in combinations(tasks, size)]

        def fits(group: tuple[str, ...], run: str, stated: float) -> bool:
            before, after = self._scores("base", group), self._scores(run, group)
            low, high = (
                CHANGES[how]([score - shift for score in before], [score + shift for score in after])
                for shift in (-ROUNDING, ROUNDING)
            )
            return low - tolerance <= stated <= high + tolerance

        count = sum(all(fits(group, run, stated) for run, stated in changes.items()) for group in groups)
        return Measured(count, n=len(groups))

    def run_value(self, run: str, column: str) -> Measured:
        paper, stated = self.paper, self.paper["runs"][run]
        if column in stated:
            return Measured(stated[column])
        sequences = sequences_per_step(paper["micro_batch"], paper["accumulate"], stated["processes"])
        process_speed = stated["tokens"] / (3600 * stated["hours"] * stated["processes"])
        derived = {
            "parameters": paper["parameters"],
            "tokens_per_parameter": stated["tokens"] / paper["parameters"],
            "tokens_per_step": sequences * paper["sequence_length"],
            "steps": math.ceil(stated["tokens"] / paper["sequence_length"] / sequences),
            "tokens_per_second_per_process": process_speed,
            "device_hours": stated["hours"] * stated["processes"],
            "utilization": process_speed * paper["flops_per_token"] / paper["peak_flops"],
        }
        return Measured(derived[column])


class FromResults(Evidence):
    """This experiment's results, and whether they can be compared with the paper's.

    Args:
        config: the merged config of the results.
        paper: `paper` of claims.yaml.
        scores, runs: rows of scores.csv and, by run, of runs.csv.
        names: the runs that correspond to the paper's, by the paper's names.
    """

    def __init__(
        self,
        config: dict[str, Any],
        paper: dict[str, Any],
        scores: list[Row],
        runs: dict[str, Row],
        names: dict[str, str],
    ):
        self.config, self.paper, self.runs, self.names = config, paper, runs, names
        self.rows, self.averages = shown_rows(scores), averages(scores)

    def _name(self, run: str) -> str:
        if run not in self.names:
            raise Unknown(f"no run stands for {run}")
        return self.names[run]

    def _row(self, run: str, task: str) -> Row:
        if (self._name(run), task) not in self.rows:
            raise Unknown(f"{task} isn't scored")
        return self.rows[self._name(run), task]

    def items(self, task: str) -> int:
        return self._row("base", task)["n"]

    def majority(self, task: str) -> float:
        if (majority := self._row("base", task)["majority"]) is None:
            raise Unknown(f"{task} has no choices here")
        return majority

    def score(self, run: str, task: str) -> Measured:
        row = self._row(run, task)
        return Measured(row["score"], (row["ci_low"], row["ci_high"]), row["n"])

    def average(self, run: str) -> Measured:
        if self._name(run) not in self.averages:
            raise Unknown("there is no average")
        if {task for (_, task), row in self.rows.items() if row["averaged"]} != set(self.paper["items"]):
            raise Unknown("the average is over other tasks")
        row = self.averages[self._name(run)]
        return Measured(row["score"], (row["ci_low"], row["ci_high"]), row["n"])

    def change(self, run: str, tasks: list[str]) -> Measured:
        rows = [self._row(run, task) for task in tasks]
        if any(row["gained"] is None for row in rows):
            raise Unknown("some of its tasks have another metric")
        pairs = [pairs_of(row) for row in rows]
        before, after = (sum(getattr(each, name) for each in pairs) for name in ("base_score", "run_score"))
        if not before:
            raise Unknown("the base model answers nothing right")
        interval = relative_change_interval(pairs, self.config["evaluate"]["seed"])
        return Measured(100 * (after / before - 1), interval, sum(each.n for each in pairs))

    def run_value(self, run: str, column: str) -> Measured:
        name = self._name(run)
        if name not in self.runs:
            raise Unknown(f"{name} wasn't trained here")
        if (value := self.runs[name][column]) is None:
            raise Unknown(f"{column} of {name} isn't known")
        return Measured(value)

    def obstacle(self, wanted: list[str], hardware: bool) -> str:
        """Why this experiment's runs don't measure `wanted` (runs of the paper); empty if they do.

        Only a repeat of the paper's experiment is compared with its numbers. Checks base model and items; for
        trained runs budget, text, settings and sequences per step; with `hardware` also device, number of
        processes and engine.
        """
        if self.config["base"].get("repo") != self.paper["base"]:
            return f"another base model: {model_name(self.config['base'])}"
        if any(row["n"] != self.paper["items"].get(row["task"], row["n"]) for row in self.rows.values()):
            return "a subset of the items"
        trained = [run for run in wanted if self.paper["runs"][run]["tokens"]]
        return next(filter(None, (self._other_run(run, hardware) for run in trained)), "")

    def _other_run(self, run: str, hardware: bool) -> str:
        config, paper, stated, name = self.config, self.paper, self.paper["runs"][run], self.names.get(run)
        row, settings = self.runs.get(name), config["runs"].get(name)
        if row is None or (settings["tokens"] != stated["tokens"] and not settings.get("start_from")):
            return f"no run of {count_label(stated['tokens'])} tokens"
        shares = config["mixtures"][settings.get("mixture") or default_mixture(config["mixtures"])]
        text = {config["corpora"][corpus].get("repo") for corpus, share in shares.items() if share}
        if text != {paper["corpus"]} or settings.get("switch") or settings.get("start_from"):
            return f"{name} is trained on other text, or not from the base model"
        train = {**config["train"], **settings.get("train", {})}
        for key, value in paper["train"].items():
            if train[key] != value:
                return f"{name} has another {key.replace('_', ' ')}: {train[key]}"
        for key in ("document_masking", "selection", "l2_to_start"):
            if train.get(key):
                return f"{name} trains with {key.replace('_', ' ')}"
        if row["sequence_length"] != paper["sequence_length"]:
            return f"{name} has sequences of {row['sequence_length']} tokens"
        if row["sequences_per_step"] != sequences_per_step(
            paper["micro_batch"], paper["accumulate"], stated["processes"]
        ):
            return f"{name} has {row['sequences_per_step']} sequences per step"
        same_machine = paper["device"] in row["device"] and row["engine"] == paper["engine"]
        if hardware and not (same_machine and row["processes"] == stated["processes"]):
            return f"{name} ran on {row['processes']} x {row['device']} with {row['engine']}"
        return ""
