"""Every score of every run with its uncertainty, beside the base model item by item and the best null."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cpt.errors import UserError
from cpt.report.comparisons import (
    adjust,
    compare,
    compare_average,
    compare_scores,
    error_of_mean,
    mean,
)
from cpt.report.held_out import held_out_rows, read_losses
from cpt.report.letters import letter
from cpt.report.measures import Measure, Paired, Values, whole_of
from cpt.report.resampling import score_interval
from cpt.report.rows import Row
from cpt.report.samples import Answers, Choices, averaged_tasks, chosen_metrics, pair
from cpt.report.scores import ALWAYS, AVERAGE, BITS_PER_BYTE, base_run
from cpt.report.statistics import (
    SIGNIFICANT,
    Z_95,
    binomial_p,
    mcnemar_p,
    pooled,
    standard_error,
    wilson_interval,
)


def score_rows(
    runs: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    answers: dict[tuple[str, str], Answers],
    summaries: dict[tuple[str, str], dict[str, Any]],
    losses: dict[tuple[str, str], Path],
    published: dict[str, dict[str, float]],
    seed: int = 0,
) -> list[Row]:
    """All rows of scores.csv by run: each task and metric, the average, bits per byte of each corpus.

    The Holm family is every shown metric of every trained run; the averages, which sum these up, are a family
    of their own (their p is that of random sign flips). Metrics without values per item have no test.

    Args:
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None for its first one.
        table_tasks: the tasks that are columns of Table 1.
        answers: of each run to each task.
        summaries: {task}.json of each run and task.
        losses: the file bits_per_byte.{corpus}.documents.csv of each run and corpus.
        published: scores of the paper's runs, if they are of the same model.
        seed: of the resampling.

    Raises:
        UserError: runs weren't scored on the same items or documents.
    """
    base = base_run(runs)
    held_out = _held_out_rows(losses, base, seed)
    task_metrics = chosen_metrics(metrics, runs, answers)
    averaged = averaged_tasks(task_metrics, table_tasks, answers)
    rows: list[Row] = []
    for run, tokens in runs.items():
        paper = published.get(run, {})
        averaged_rows: list[tuple[Row, Paired]] = []
        for task, metric in task_metrics.items():
            summary = summaries[run, task]
            _check_count(answers[run, task], task, summary["n"])
            for row, paired in _task_rows(answers[base, task], answers[run, task], seed, tokens > 0):
                is_shown = row["metric"] == metric and task in table_tasks
                rows.append(
                    {
                        **{"run": run, "tokens": tokens, "task": task, "shown": is_shown, **row},
                        "averaged": is_shown and task in averaged,
                        "items_of_full": summary["items_of_full"],
                        "shots": summary["shots"],
                        "cut_items": summary["cut"]["items"],
                        "published": paper.get(task) if row["metric"] == metric else None,
                    }
                )
                if rows[-1]["averaged"]:
                    averaged_rows.append((rows[-1], paired))
        if averaged_rows:
            rows.append(_average_row(averaged_rows, seed) | {"published": paper.get(AVERAGE)})
        rows += [{"run": run, "tokens": tokens, **rows_by_run[run]} for rows_by_run in held_out]
    adjust([row for row in rows if row["shown"]], "mcnemar_p")
    adjust([row for row in rows if row["task"] == AVERAGE], "mcnemar_p")
    return rows


def _check_count(answers: Answers, task: str, n: int) -> None:
    if n != len(answers.keys):
        raise UserError(
            f"{answers.path}: has {len(answers.keys)} items, but {task}.json beside it counts {n}; "
            "evaluate again"
        )


def _task_rows(base: Answers, run: Answers, seed: int, compared: bool) -> Iterator[tuple[Row, Paired | None]]:
    """Yield the row of each metric of a run's answers to a task; differences from base only if `compared`."""
    nulls = null_scores(run.choices) if run.choices else {}
    for metric, measure in run.measures.items():
        paired = pair(base, run, metric)
        row = {"metric": metric, "n": len(run.keys), "higher_is_better": measure.higher_is_better}
        row |= _score(measure, paired, seed)
        if paired is None:
            change = compare_scores(base.measures[metric], measure, row["n"])
            row |= {"base_score": change["reference_score"], "difference": change["difference"]}
        else:
            whole = whole_of(paired)
            row |= {"base_score": whole.base_score, "difference": whole.difference}
            row |= _difference(compare(paired, seed)) if compared else {}
        if isinstance(paired, list):
            row |= {"gained": pooled(paired).gained, "lost": pooled(paired).lost}
            row |= nulls | (strongest_null(run.choices, run.right(metric)) if run.choices else {})
        yield row, paired


def _score(measure: Measure, paired: Paired | None, seed: int) -> Row:
    """A run's score with its error and interval: Wilson's for a share, a bootstrap's for other values, and by
    lm-eval's standard error without values per item."""
    if paired is None:
        row = {"score": measure.score, "standard_error": measure.standard_error}
        if None in row.values():
            return row
        half = Z_95 * measure.standard_error
        return row | {"ci_low": row["score"] - half, "ci_high": row["score"] + half}
    if isinstance(paired, Values):
        low, high = score_interval(paired, seed)
        return {
            **{"score": paired.run_score, "standard_error": measure.standard_error},
            **{"ci_low": low, "ci_high": high},
        }
    pairs = pooled(paired)
    correct = pairs.both + pairs.gained
    low, high = wilson_interval(correct, pairs.n)
    error = standard_error(correct, pairs.n)
    return {"score": pairs.run_score, "standard_error": error, "ci_low": low, "ci_high": high}


def _difference(compared: Row) -> Row:
    """The columns of scores.csv that say how a run differs from the base model."""
    return {
        "difference_ci_low": compared["ci_low"],
        "difference_ci_high": compared["ci_high"],
        "mcnemar_p": compared["p"],
        "test": compared["test"],
        "detectable_difference": compared["detectable_difference"],
    }


def _average_row(averaged_rows: list[tuple[Row, Paired]], seed: int) -> Row:
    """The unweighted mean over the averaged rows of one run, with the interval of its own difference."""
    rows = [row for row, _ in averaged_rows]
    row: Row = {name: rows[0][name] for name in ("run", "tokens")}
    row |= {"task": AVERAGE, "metric": AVERAGE, "shown": False, "higher_is_better": True}
    for name in ("n", "items_of_full", "gained", "lost"):
        row[name] = sum(each.get(name, 0) for each in rows)
    for name in ("score", "base_score", "difference", "chance", "majority"):
        values = [each.get(name) for each in rows]
        row[name] = None if None in values else mean(values)  # tasks without choices have no chance
    error = row["standard_error"] = error_of_mean([each["standard_error"] for each in rows])
    row |= {"ci_low": row["score"] - Z_95 * error, "ci_high": row["score"] + Z_95 * error}
    if row["tokens"]:
        row |= _difference(compare_average([paired for _, paired in averaged_rows], seed))
    return row


def _held_out_rows(losses: dict[tuple[str, str], Path], base: str, seed: int) -> list[dict[str, Row]]:
    """For each corpus, the rows of all runs, by run."""
    tables = []
    for corpus in dict.fromkeys(corpus for _, corpus in losses):
        files = {run: path for (run, other), path in losses.items() if other == corpus}
        runs = [base, *(run for run in files if run != base)]
        rows = held_out_rows([read_losses(files[run]) for run in runs], seed)
        names = {"task": f"{BITS_PER_BYTE}.{corpus}", "metric": BITS_PER_BYTE, "shown": False}
        tables.append({run: {**names, **row} for run, row in zip(runs, rows, strict=True)})
    return tables


def null_answers(choices: Choices) -> dict[str, np.ndarray]:
    """Bool [items] by null: what always answering one letter, or the longest choice, gets right.

    An item without such a letter counts as wrong. `longest` is absent where all choices are equally long
    (MMLU's are letters, and WinoGrande's two sentences end alike).
    """
    nulls = {f"{ALWAYS}{letter(number)}": choices.gold == number for number in range(choices.number.max())}
    return nulls if choices.longest is None else {**nulls, "longest": choices.gold == choices.longest}


def chance_of(choices: Choices) -> float:
    """Expected score of a uniform guess: the mean of 1 / number of choices."""
    return float((1 / choices.number).mean())


def null_scores(choices: Choices) -> dict[str, float]:
    """What can be scored without reading the question: `chance`, `always_A` ..., `majority` (the best of
    these), and if there is one `longest`."""
    scores = {name: float(right.mean()) for name, right in null_answers(choices).items()}
    majority = max(score for name, score in scores.items() if name.startswith(ALWAYS))
    return {"chance": chance_of(choices), "majority": majority, **scores}


def strongest_null(choices: Choices, right: np.ndarray) -> Row:
    """The null with the highest score, and the test of a run's answers (`right`, bool [items]) against it.

    The best letter to answer always is only known from the gold answers, so this null is slightly stronger
    than a fair one. If a score differs significantly from it, it differs from all of them.

    Returns:
        Columns of scores.csv: null (`chance`, `longest`, or `always_B` and the like), its score, the exact
        test (`mcnemar` on the same items; `binomial` for chance, which has no answers), its two-sided p, and
        above_null: the run's score is higher, and p is below 0.05.
    """
    nulls, chance = null_answers(choices), chance_of(choices)
    null = max(nulls, key=lambda name: float(nulls[name].mean()))
    score = float(nulls[null].mean())
    if score < chance:  # if items differ in the number of choices, this test is slightly conservative
        null, score, test = "chance", chance, "binomial"
        p = binomial_p(int(right.sum()), len(right), chance)
    else:
        test = "mcnemar"
        p = mcnemar_p(int((right & ~nulls[null]).sum()), int((nulls[null] & ~right).sum()))
    above = float(right.mean()) > score and p < SIGNIFICANT
    return {"null": null, "null_score": score, "null_test": test, "null_p": p, "above_null": above}
