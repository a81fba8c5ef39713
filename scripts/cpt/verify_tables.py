"""Recomputes the tables of an experiment with cpt.verify_numbers and compares them."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from cpt.data_sets import BY_TASK
from cpt.errors import UserError
from cpt.files import read_json
from cpt.verify_numbers import (
    HELD_OUT,
    Check,
    Near,
    Row,
    against_null,
    average_of,
    binary,
    compare,
    evaluated,
    held_out,
    holm,
    nulls,
    pair_of,
    read_table,
    read_task,
    wilson,
)

QUANTITIES = ("right", "wrong", "margin", "probability", "bits_per_byte")


class Experiment:
    """The samples of all runs and tasks, read once, and which scores scores.csv marks as shown or averaged.

    Raises UserError if the folder has no scores.csv.
    """

    def __init__(self, results: Path):
        if not (results / "scores.csv").is_file():
            raise UserError(f"{results}/scores.csv: missing; finish the experiment first, or name its folder")
        self.results, self.scores = results, read_table(results / "scores.csv")
        self.tokens = dict(zip(self.scores["run"], self.scores["tokens"], strict=True))
        self.base = next(run for run, tokens in self.tokens.items() if tokens == "0")
        evaluations = {key: read_task(results, *key) for key in evaluated(self.scores)}
        self.summaries = {key: summary for key, (summary, _) in evaluations.items()}
        self.samples = {key: samples for key, (_, samples) in evaluations.items()}
        self.tasks = list(dict.fromkeys(task for _, task in self.samples))
        # What Table 1 shows and averages is a setting, so it is read, not recomputed.
        flags = self.scores.set_index(["run", "task", "metric"])
        self.shown = {key for key, cell in flags["shown"].items() if cell == "true"}
        self.averaged = {key for key, cell in flags["averaged"].items() if cell == "true"}

    def counted(self, task: str, metric: str) -> bool:
        """Whether every item of a metric is right or wrong (0 or 1) in every run."""
        kinds = {self.summaries[run, task]["aggregations"].get(metric) for run in self.tokens}
        return kinds == {"mean"} and all(binary(self.samples[run, task], metric) for run in self.tokens)

    def pairs(self, reference: str, run: str) -> dict[tuple[str, str], Row]:
        """Returns how two runs differ, by task and metric whose items are right or wrong."""
        generator = np.random.default_rng(1)
        return {
            (task, metric): pair_of(self.samples[reference, task], self.samples[run, task], metric, generator)
            for task in self.tasks
            for metric in self.summaries[run, task]["aggregations"]
            if self.counted(task, metric)
        }


def check_scores(experiment: Experiment) -> Check:
    """Check scores.csv: scores, intervals, differences, tests, nulls, the average, bits per byte."""
    rows: list[Row] = []
    for run in experiment.tokens:
        pairs = experiment.pairs(experiment.base, run)
        for task in experiment.tasks:
            for metric in experiment.summaries[run, task]["aggregations"]:
                names = {"run": run, "task": task, "metric": metric}
                if (task, metric) in pairs:
                    rows.append(names | _score(experiment, run, task, pairs[task, metric], metric))
                else:  # not right or wrong: recompute only the score
                    rows.append(names | _other_score(experiment, run, task, metric))
        averaged = [pairs[key] for key in pairs if (run, *key) in experiment.averaged]
        if len(averaged) == sum(key[0] == run for key in experiment.averaged) > 0:
            rows.append(
                {"run": run, "task": "average", "metric": "average", **_average(averaged, run, experiment)}
            )
        elif averaged:  # some metrics are means of other values, so only the row's names are compared
            rows.append({"run": run, "task": "average", "metric": "average"})
        for task in filter(lambda task: task.startswith(HELD_OUT), experiment.scores["task"].unique()):
            row = held_out(experiment.results, experiment.base, run, task.removeprefix(HELD_OUT))
            rows.append({"run": run, "task": task, "metric": "bits_per_byte", **row})
    _adjust([row for row in rows if (row["run"], row["task"], row["metric"]) in experiment.shown])
    _adjust([row for row in rows if row["task"] == "average"])
    return compare(experiment.results / "scores.csv", ["run", "task", "metric"], rows)


def _score(experiment: Experiment, run: str, task: str, pair: Row, metric: str) -> Row:
    samples, summary = experiment.samples[run, task], experiment.summaries[run, task]
    right, n = samples[metric], pair["n"]
    low, high = wilson(pair["score"], n)
    row: Row = {
        **{name: pair[name] for name in ("n", "score", "difference", "gained", "lost")},
        **{"base_score": pair["reference_score"], "ci_low": low, "ci_high": high},
        **{"standard_error": float(right.sem()), "items_of_full": summary["items_of_full"]},
    }
    if experiment.tokens[run] != "0":
        row |= {"difference_ci_low": pair["ci_low"], "difference_ci_high": pair["ci_high"]}
        row |= {"mcnemar_p": pair["p"], "detectable_difference": pair["detectable_difference"]}
    return row | (nulls(samples) | against_null(samples, metric) if "gold" in samples else {})


def _other_score(experiment: Experiment, run: str, task: str, metric: str) -> Row:
    samples, summary = experiment.samples[run, task], experiment.summaries[run, task]
    row: Row = {"n": len(samples)}
    if summary["aggregations"][metric] in ("mean", BY_TASK) and samples[metric].map(np.isscalar).all():
        task_means = samples[metric].groupby(level=0).mean()
        row["score"] = (task_means if summary["aggregations"][metric] == BY_TASK else samples[metric]).mean()
    return row


def _average(pairs: list[Row], run: str, experiment: Experiment) -> Row:
    average, k = average_of(pairs), len(pairs)
    errors = [math.sqrt(pair["score"] * (1 - pair["score"]) / (pair["n"] - 1)) for pair in pairs]
    half = stats.norm.ppf(0.975) * math.sqrt(sum(error**2 for error in errors)) / k
    row = {name: average[name] for name in ("n", "score", "difference", "gained", "lost")}
    row |= {"base_score": average["reference_score"], "standard_error": half / stats.norm.ppf(0.975)}
    row |= {"ci_low": average["score"] - half, "ci_high": average["score"] + half}
    if experiment.tokens[run] != "0":
        row |= {"difference_ci_low": average["ci_low"], "difference_ci_high": average["ci_high"]}
        row |= {"mcnemar_p": average["p"], "detectable_difference": average["detectable_difference"]}
    return row


def _adjust(family: list[Row], column: str = "mcnemar_p") -> None:
    """Add Holm's p to the rows of a family. If p was drawn, its tolerance is multiplied by the number of
    rows."""
    family = [row for row in family if row.get(column) is not None]
    values = [row[column] for row in family]
    adjusted = holm(pd.Series([p.value if isinstance(p, Near) else p for p in values], dtype=float))
    for row, p, own in zip(family, adjusted, values, strict=True):
        row[f"{column}_holm"] = Near(p, len(family) * own.tolerance) if isinstance(own, Near) else float(p)


def check_comparisons(experiment: Experiment) -> Check:
    """Check comparisons.csv: every pair of runs on metrics whose items are right or wrong, and averages."""
    rows: list[Row] = []
    families: dict[tuple[bool, bool], list[Row]] = {}
    for reference, run in combinations(experiment.tokens, 2):
        pairs, against_base = experiment.pairs(reference, run), reference == experiment.base
        names = {"reference": reference, "run": run}
        for task in experiment.tasks:
            for metric in experiment.summaries[run, task]["aggregations"]:
                pair = pairs.get((task, metric), {})
                columns = {key: value for key, value in pair.items() if key != "drawn"}
                rows.append({**names, "task": task, "metric": metric, **columns})
                if (run, task, metric) in experiment.shown:
                    families.setdefault((against_base, False), []).append(rows[-1])
        averaged = [key[1:] for key in experiment.averaged if key[0] == run]
        if averaged:
            whole = all(key in pairs for key in averaged)
            mean = average_of([pairs[key] for key in pairs if key in averaged]) if whole else {}
            rows.append({**names, "task": "average", "metric": "average", **mean})
            families.setdefault((against_base, True), []).append(rows[-1])
    for family in families.values():
        if all("p" in row for row in family):  # else the family has tests that aren't recomputed
            _adjust(family, "p")
    return compare(experiment.results / "comparisons.csv", ["reference", "run", "task", "metric"], rows)


def check_table1(experiment: Experiment) -> Check:
    """Check table1.csv: the shown scores, to four decimals."""
    rows = []
    for run, tokens in experiment.tokens.items():
        row: Row = {"run": run, "tokens": int(tokens)}
        shown = [key[1:] for key in experiment.shown if key[0] == run and experiment.counted(*key[1:])]
        row |= {task: Near(experiment.samples[run, task][metric].mean(), 6e-5) for task, metric in shown}
        rows.append(row)
    return compare(experiment.results / "table1.csv", ["run"], rows)


def check_letters(experiment: Experiment) -> Check:
    """Check letters.csv: how often each letter is right, answered, and both."""
    rows = []
    for (run, task), samples in experiment.samples.items():
        if "gold" not in samples:
            continue
        for number in range(samples["loglikelihoods"].map(len).max()):
            gold, answered = samples["gold"] == number, samples["predicted"] == number
            name = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number] if number < 26 else str(number + 1)
            row = {"run": run, "task": task, "letter": name, "items": len(samples)}
            row |= {"gold": int(gold.sum()), "answered": int(answered.sum())}
            row |= {"right": int((gold & answered).sum()), "gold_share": float(gold.mean())}
            rows.append(row | {"answered_share": float(answered.mean())})
    return compare(experiment.results / "letters.csv", ["run", "task", "letter"], rows)


def _likelihoods(samples: pd.DataFrame) -> pd.DataFrame:
    """Returns the QUANTITIES of each item."""

    def quantities(sample: pd.Series) -> list[float]:
        likelihoods, gold = np.array(sample["loglikelihoods"]), sample["gold"]
        right, wrong = likelihoods[gold], np.delete(likelihoods, gold).mean()
        share = 1 / np.exp(likelihoods - right).sum()
        return [right, wrong, right - wrong, share, sample["bits_per_byte"]]

    values = [quantities(sample) for _, sample in samples.iterrows()]
    return pd.DataFrame(values, samples.index, QUANTITIES)


def check_answers(experiment: Experiment) -> Check:
    """Check answers.csv: answers' likelihoods against the base model, with scipy's paired t-test."""
    rows: list[Row] = []
    tasks = [task for task in experiment.tasks if "gold" in experiment.samples[experiment.base, task]]
    likelihoods = {
        key: _likelihoods(experiment.samples[key]) for key in experiment.samples if key[1] in tasks
    }
    for run in (run for run, tokens in experiment.tokens.items() if tokens != "0"):
        for task in tasks:
            base, own = experiment.samples[experiment.base, task], experiment.samples[run, task]
            same = (base["gold"] == own["gold"]) & (own["loglikelihoods"].map(len) > 1)
            before, after = likelihoods[experiment.base, task][same], likelihoods[run, task][same]
            for quantity in QUANTITIES if len(after) > 1 else ():
                test = stats.ttest_rel(after[quantity], before[quantity])
                low, high = test.confidence_interval(0.95)
                row = {"run": run, "task": task, "quantity": quantity, "n": len(after)}
                row |= {"base_mean": before[quantity].mean(), "mean": after[quantity].mean()}
                row |= {"difference": (after - before)[quantity].mean(), "ci_low": low, "ci_high": high}
                rows.append(row | {"standard_error": (after - before)[quantity].sem(), "p": test.pvalue})
    for quantity in QUANTITIES:
        _adjust([row for row in rows if row["quantity"] == quantity], "p")
    published = read_table(experiment.results / "answers.csv")
    means = published.loc[published["task"] == "average", ["run", "task", "quantity"]].to_dict("records")
    return compare(experiment.results / "answers.csv", ["run", "task", "quantity"], [*rows, *means])


def check_runs(experiment: Experiment) -> Check:
    """Check runs.csv against run.json and metrics.csv of each run."""
    rows = []
    for path in sorted(experiment.results.glob("runs/*/run.json")):
        run, summary = path.parent.name, read_json(path)
        losses = pd.read_csv(path.with_name("metrics.csv"))
        if "skipped" in losses:
            losses = losses[losses["skipped"] != 1]
        window = max(1, round(0.01 * len(losses)))
        hours = summary["tokens"] / summary["tokens_per_second"] / 3600
        row = {name: int(summary[name]) for name in ("tokens", "sequences", "steps", "processes")}
        row |= {"run": run, "hours": hours, "device_hours": hours * int(summary["processes"])}
        row |= {"first_loss": losses["loss"][:window].mean(), "last_loss": losses["loss"][-window:].mean()}
        rows.append(row)
    return compare(experiment.results / "runs.csv", ["run"], rows)


def check_seeds(experiment: Experiment) -> Check:
    """Check seeds.csv: mean over runs that repeat one another, their spread, and the items' own error."""
    groups: dict[str, list[str]] = {}
    for run, settings in yaml.safe_load((experiment.results / "config.yaml").read_text())["runs"].items():
        if name := (settings or {}).get("replicate_of"):
            groups.setdefault(name, [name]).append(run)
    rows = []
    for published in read_table(experiment.results / "seeds.csv").to_dict("records"):
        name, task, metric = (published[key] for key in ("run", "task", "metric"))
        runs = groups[name]
        keys = (
            [(task, metric)]
            if task != "average"
            else [key[1:] for key in experiment.averaged if key[0] == name]
        )
        base = pd.Series({key: experiment.samples[experiment.base, key[0]][key[1]] for key in keys})
        is_difference = published["quantity"] == "difference"
        values = [
            pd.DataFrame(
                {run: experiment.samples[run, key[0]][key[1]] - is_difference * base[key] for run in runs}
            )
            for key in keys
        ]
        run_means = sum(each.mean() for each in values) / len(keys)
        error = math.sqrt(sum(each.mean(axis=1).sem() ** 2 for each in values)) / len(keys)
        row = {"run": name, "task": task, "quantity": published["quantity"], "runs": len(runs)}
        row |= {"n": sum(map(len, values)), "mean": run_means.mean(), "between_seeds": run_means.std()}
        rows.append(row | {"item_error": error})
    return compare(experiment.results / "seeds.csv", ["run", "task", "quantity"], rows)


CHECKS = {
    "scores.csv": check_scores,
    "comparisons.csv": check_comparisons,
    "table1.csv": check_table1,
    "letters.csv": check_letters,
    "answers.csv": check_answers,
    "runs.csv": check_runs,
    "seeds.csv": check_seeds,
}


def check_all(results: Path) -> list[Check]:
    """Recompute every table of CHECKS that the experiment has."""
    experiment = Experiment(results)
    return [check(experiment) for name, check in CHECKS.items() if (results / name).is_file()]
