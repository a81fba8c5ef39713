"""The tables of an experiment, each with what cpt.verify_numbers gives for it."""

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
    """The samples of all runs and tasks, read once, and what scores.csv says that was shown.

    Raises UserError if the folder has no scores.csv.
    """

    def __init__(self, results: Path):
        if not (results / "scores.csv").is_file():
            raise UserError(f"{results}/scores.csv: missing; finish the experiment first, or name its folder")
        self.results, self.scores = results, read_table(results / "scores.csv")
        self.tokens = dict(zip(self.scores["run"], self.scores["tokens"], strict=True))
        self.base = next(run for run, tokens in self.tokens.items() if tokens == "0")
        read = {key: read_task(results, *key) for key in evaluated(self.scores)}
        self.summaries = {key: summary for key, (summary, _) in read.items()}
        self.samples = {key: samples for key, (_, samples) in read.items()}
        self.tasks = list(dict.fromkeys(task for _, task in self.samples))
        # What Table 1 shows and averages is a setting, not a number.
        flags = self.scores.set_index(["run", "task", "metric"])
        self.shown = {key for key, cell in flags["shown"].items() if cell == "true"}
        self.averaged = {key for key, cell in flags["averaged"].items() if cell == "true"}

    def counted(self, task: str, metric: str) -> bool:
        """Whether a metric's items are right or wrong in every run."""
        kinds = {self.summaries[run, task]["aggregations"].get(metric) for run in self.tokens}
        return kinds == {"mean"} and all(binary(self.samples[run, task], metric) for run in self.tokens)

    def pairs(self, reference: str, run: str) -> dict[tuple[str, str], Row]:
        """How two runs differ, by task and metric whose items are right or wrong."""
        generator = np.random.default_rng(1)
        return {
            (task, metric): pair_of(self.samples[reference, task], self.samples[run, task], metric, generator)
            for task in self.tasks
            for metric in self.summaries[run, task]["aggregations"]
            if self.counted(task, metric)
        }


def check_scores(found: Experiment) -> Check:
    """scores.csv: scores, intervals, differences, tests, nulls, the average, bits per byte."""
    rows: list[Row] = []
    for run in found.tokens:
        pairs = found.pairs(found.base, run)
        for task in found.tasks:
            for metric in found.summaries[run, task]["aggregations"]:
                names = {"run": run, "task": task, "metric": metric}
                if (task, metric) in pairs:
                    rows.append(names | _score(found, run, task, pairs[task, metric], metric))
                else:  # values other than right and wrong: the score alone
                    rows.append(names | _other_score(found, run, task, metric))
        averaged = [pairs[key] for key in pairs if (run, *key) in found.averaged]
        if len(averaged) == sum(key[0] == run for key in found.averaged) > 0:
            rows.append(
                {"run": run, "task": "average", "metric": "average", **_average(averaged, run, found)}
            )
        elif averaged:  # some are means of other values: known by name, not computed again
            rows.append({"run": run, "task": "average", "metric": "average"})
        for task in filter(lambda task: task.startswith(HELD_OUT), found.scores["task"].unique()):
            row = held_out(found.results, found.base, run, task.removeprefix(HELD_OUT))
            rows.append({"run": run, "task": task, "metric": "bits_per_byte", **row})
    _adjust([row for row in rows if (row["run"], row["task"], row["metric"]) in found.shown])
    _adjust([row for row in rows if row["task"] == "average"])
    return compare(found.results / "scores.csv", ["run", "task", "metric"], rows)


def _score(found: Experiment, run: str, task: str, pair: Row, metric: str) -> Row:
    samples, summary = found.samples[run, task], found.summaries[run, task]
    right, n = samples[metric], pair["n"]
    low, high = wilson(pair["score"], n)
    row: Row = {
        **{name: pair[name] for name in ("n", "score", "difference", "gained", "lost")},
        **{"base_score": pair["reference_score"], "ci_low": low, "ci_high": high},
        **{"standard_error": float(right.sem()), "items_of_full": summary["items_of_full"]},
    }
    if found.tokens[run] != "0":
        row |= {"difference_ci_low": pair["ci_low"], "difference_ci_high": pair["ci_high"]}
        row |= {"mcnemar_p": pair["p"], "detectable_difference": pair["detectable_difference"]}
    return row | (nulls(samples) | against_null(samples, metric) if "gold" in samples else {})


def _other_score(found: Experiment, run: str, task: str, metric: str) -> Row:
    samples, summary = found.samples[run, task], found.summaries[run, task]
    row: Row = {"n": len(samples)}
    if summary["aggregations"][metric] in ("mean", BY_TASK) and samples[metric].map(np.isscalar).all():
        by_task = samples[metric].groupby(level=0).mean()
        row["score"] = (by_task if summary["aggregations"][metric] == BY_TASK else samples[metric]).mean()
    return row


def _average(pairs: list[Row], run: str, found: Experiment) -> Row:
    average, k = average_of(pairs), len(pairs)
    errors = [math.sqrt(pair["score"] * (1 - pair["score"]) / (pair["n"] - 1)) for pair in pairs]
    half = stats.norm.ppf(0.975) * math.sqrt(sum(error**2 for error in errors)) / k
    row = {name: average[name] for name in ("n", "score", "difference", "gained", "lost")}
    row |= {"base_score": average["reference_score"], "standard_error": half / stats.norm.ppf(0.975)}
    row |= {"ci_low": average["score"] - half, "ci_high": average["score"] + half}
    if found.tokens[run] != "0":
        row |= {"difference_ci_low": average["ci_low"], "difference_ci_high": average["ci_high"]}
        row |= {"mcnemar_p": average["p"], "detectable_difference": average["detectable_difference"]}
    return row


def _adjust(family: list[Row], column: str = "mcnemar_p") -> None:
    """Add Holm's p to the rows of a family. Of drawn p values it is as uncertain as they are, times their
    number."""
    family = [row for row in family if row.get(column) is not None]
    values = [row[column] for row in family]
    adjusted = holm(pd.Series([p.value if isinstance(p, Near) else p for p in values], dtype=float))
    for row, p, own in zip(family, adjusted, values, strict=True):
        row[f"{column}_holm"] = Near(p, len(family) * own.tolerance) if isinstance(own, Near) else float(p)


def check_comparisons(found: Experiment) -> Check:
    """comparisons.csv: every pair of runs on metrics whose items are right or wrong, and the averages."""
    rows: list[Row] = []
    families: dict[tuple[bool, bool], list[Row]] = {}
    for reference, run in combinations(found.tokens, 2):
        pairs, against_base = found.pairs(reference, run), reference == found.base
        names = {"reference": reference, "run": run}
        for task in found.tasks:
            for metric in found.summaries[run, task]["aggregations"]:
                pair = pairs.get((task, metric), {})
                known = {key: value for key, value in pair.items() if key != "drawn"}
                rows.append({**names, "task": task, "metric": metric, **known})
                if (run, task, metric) in found.shown:
                    families.setdefault((against_base, False), []).append(rows[-1])
        averaged = [key[1:] for key in found.averaged if key[0] == run]
        if averaged:
            whole = all(key in pairs for key in averaged)
            mean = average_of([pairs[key] for key in pairs if key in averaged]) if whole else {}
            rows.append({**names, "task": "average", "metric": "average", **mean})
            families.setdefault((against_base, True), []).append(rows[-1])
    for family in families.values():
        if all("p" in row for row in family):  # else the family has tests that aren't done again
            _adjust(family, "p")
    return compare(found.results / "comparisons.csv", ["reference", "run", "task", "metric"], rows)


def check_table1(found: Experiment) -> Check:
    """table1.csv: the shown scores, to four decimals."""
    rows = []
    for run, tokens in found.tokens.items():
        row: Row = {"run": run, "tokens": int(tokens)}
        shown = [key[1:] for key in found.shown if key[0] == run and found.counted(*key[1:])]
        row |= {task: Near(found.samples[run, task][metric].mean(), 6e-5) for task, metric in shown}
        rows.append(row)
    return compare(found.results / "table1.csv", ["run"], rows)


def check_letters(found: Experiment) -> Check:
    """letters.csv: how often each letter is right, answered, and both."""
    rows = []
    for (run, task), samples in found.samples.items():
        if "gold" not in samples:
            continue
        for number in range(samples["loglikelihoods"].map(len).max()):
            gold, answered = samples["gold"] == number, samples["predicted"] == number
            name = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number] if number < 26 else str(number + 1)
            row = {"run": run, "task": task, "letter": name, "items": len(samples)}
            row |= {"gold": int(gold.sum()), "answered": int(answered.sum())}
            row |= {"right": int((gold & answered).sum()), "gold_share": float(gold.mean())}
            rows.append(row | {"answered_share": float(answered.mean())})
    return compare(found.results / "letters.csv", ["run", "task", "letter"], rows)


def _likelihoods(samples: pd.DataFrame) -> pd.DataFrame:
    """The QUANTITIES of each item."""

    def quantities(sample: pd.Series) -> list[float]:
        all_of, gold = np.array(sample["loglikelihoods"]), sample["gold"]
        right, wrong = all_of[gold], np.delete(all_of, gold).mean()
        share = 1 / np.exp(all_of - right).sum()
        return [right, wrong, right - wrong, share, sample["bits_per_byte"]]

    values = [quantities(sample) for _, sample in samples.iterrows()]
    return pd.DataFrame(values, samples.index, QUANTITIES)


def check_answers(found: Experiment) -> Check:
    """answers.csv: likelihoods of right and wrong answers against the base model, by scipy's paired t."""
    rows: list[Row] = []
    tasks = [task for task in found.tasks if "gold" in found.samples[found.base, task]]
    likelihoods = {key: _likelihoods(found.samples[key]) for key in found.samples if key[1] in tasks}
    for run in (run for run, tokens in found.tokens.items() if tokens != "0"):
        for task in tasks:
            base, own = found.samples[found.base, task], found.samples[run, task]
            same = (base["gold"] == own["gold"]) & (own["loglikelihoods"].map(len) > 1)
            before, after = likelihoods[found.base, task][same], likelihoods[run, task][same]
            for quantity in QUANTITIES if len(after) > 1 else ():
                test = stats.ttest_rel(after[quantity], before[quantity])
                low, high = test.confidence_interval(0.95)
                row = {"run": run, "task": task, "quantity": quantity, "n": len(after)}
                row |= {"base_mean": before[quantity].mean(), "mean": after[quantity].mean()}
                row |= {"difference": (after - before)[quantity].mean(), "ci_low": low, "ci_high": high}
                rows.append(row | {"standard_error": (after - before)[quantity].sem(), "p": test.pvalue})
    for quantity in QUANTITIES:
        _adjust([row for row in rows if row["quantity"] == quantity], "p")
    published = read_table(found.results / "answers.csv")
    means = published.loc[published["task"] == "average", ["run", "task", "quantity"]].to_dict("records")
    return compare(found.results / "answers.csv", ["run", "task", "quantity"], [*rows, *means])


def check_runs(found: Experiment) -> Check:
    """runs.csv: what run.json and metrics.csv of each run give."""
    rows = []
    for path in sorted(found.results.glob("runs/*/run.json")):
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
    return compare(found.results / "runs.csv", ["run"], rows)


def check_seeds(found: Experiment) -> Check:
    """seeds.csv: mean over runs that repeat one another, their spread, and the items' own error."""
    groups: dict[str, list[str]] = {}
    for run, settings in yaml.safe_load((found.results / "config.yaml").read_text())["runs"].items():
        if name := (settings or {}).get("replicate_of"):
            groups.setdefault(name, [name]).append(run)
    rows = []
    for published in read_table(found.results / "seeds.csv").to_dict("records"):
        name, task, metric = (published[key] for key in ("run", "task", "metric"))
        runs = groups[name]
        keys = (
            [(task, metric)] if task != "average" else [key[1:] for key in found.averaged if key[0] == name]
        )
        base = pd.Series({key: found.samples[found.base, key[0]][key[1]] for key in keys})
        taken = published["quantity"] == "difference"
        values = [
            pd.DataFrame({run: found.samples[run, key[0]][key[1]] - taken * base[key] for run in runs})
            for key in keys
        ]
        of_runs = sum(each.mean() for each in values) / len(keys)
        error = math.sqrt(sum(each.mean(axis=1).sem() ** 2 for each in values)) / len(keys)
        row = {"run": name, "task": task, "quantity": published["quantity"], "runs": len(runs)}
        row |= {"n": sum(map(len, values)), "mean": of_runs.mean(), "between_seeds": of_runs.std()}
        rows.append(row | {"item_error": error})
    return compare(found.results / "seeds.csv", ["run", "task", "quantity"], rows)


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
    found = Experiment(results)
    return [check(found) for name, check in CHECKS.items() if (results / name).is_file()]
