"""Every score of every run with its uncertainty, paired with the base model item by item."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.files import atomic, read_json
from cpt.report.statistics import Pairs, holm, mcnemar_p, standard_error, wilson_interval

COLUMNS = (
    *("run", "tokens", "task", "metric", "n", "items_of_full", "score", "standard_error"),
    *("ci_low", "ci_high", "shown", "base_score", "difference", "gained", "lost"),
    *("mcnemar_p", "mcnemar_p_holm", "chance", "published"),
)
METRICS = ("acc", "acc_norm")
BITS_PER_BYTE = "bits_per_byte"
PUBLISHED_MODEL = "facebook/MobileLLM-125M"

Item = tuple[str, Any]
Row = dict[str, Any]


def read_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises UserError if it has no rows or lacks a required column."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in required if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(
                f"{path}: expected the columns {', '.join(required)}, but {', '.join(missing)} is missing; "
                "delete the file and make it again"
            )
        rows = list(reader)
    if not rows:
        raise UserError(f"{path}: no rows below the header; delete the file and make it again")
    return rows


def base_run(runs: list[dict[str, Any]]) -> str:
    """The name of the run without training tokens. Raises UserError if there is none."""
    for run in runs:
        if run["tokens"] == 0:
            return run["name"]
    raise UserError("runs: every comparison is against the base model; add a run without tokens: `base: {}`")


def read_published(path: Path) -> dict[str, dict[str, float]]:
    """The paper's Table 1: run -> {tokens, task: score, ..., average}."""
    return {
        row["run"]: {key: float(value) for key, value in row.items() if key != "run"}
        for row in read_rows(path, ("run", "tokens", "average"))
    }


def read_samples(path: Path) -> dict[Item, Row]:
    """One evaluated task's items by (task, item). Raises UserError on a broken line or a repeated item."""
    samples: dict[Item, Row] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                sample = json.loads(line)
                key = (sample["task"], sample["item"])
                outcomes = [sample["acc"], sample["acc_norm"]]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}: expected an item with task, item, acc and acc_norm ({error!r}); "
                    "delete the file and evaluate again"
                ) from None
            if outcomes[0] not in (0, 1) or outcomes[1] not in (0, 1, None):
                raise UserError(f"{path}, line {number}: acc and acc_norm must be 0 or 1, but are {outcomes}")
            if key in samples:
                raise UserError(f"{path}, line {number}: item {key} occurs twice; evaluate again")
            samples[key] = sample
    if not samples:
        raise UserError(f"{path}: no items; check evaluate.items and evaluate again")
    return samples


def pair(base: dict[Item, Row], run: dict[Item, Row], metric: str, where: str) -> Pairs:
    """Count how the base model and a run answered the same items.

    `where` names the run's file for the UserError that is raised when the items differ.
    """
    if base.keys() != run.keys():
        raise UserError(
            f"{where}: its items aren't those of the base model ({len(run.keys() - base.keys())} only here, "
            f"{len(base.keys() - run.keys())} only there), so the runs can't be compared; evaluate both with "
            "the same evaluate.items and evaluate.seed"
        )
    counts = {(True, True): 0, (False, True): 0, (True, False): 0, (False, False): 0}
    for key, sample in run.items():
        counts[bool(base[key][metric]), bool(sample[metric])] += 1
    return Pairs(*counts.values())


def _chance(samples: dict[Item, Row]) -> float:
    """Expected accuracy of a uniform guess: the mean of 1 / number of choices."""
    return math.fsum(1 / len(sample["loglikelihoods"]) for sample in samples.values()) / len(samples)


def _task_rows(
    folder: Path, run: dict[str, Any], base: str, task: str, settings: dict[str, Any], published: float | None
) -> Iterator[Row]:
    shown = settings["metric"]
    path = folder / run["name"] / f"{task}.samples.jsonl"
    summary = read_json(folder / run["name"] / f"{task}.json")
    samples = read_samples(path)
    if summary["n"] != len(samples):
        raise UserError(
            f"{path}: has {len(samples)} items, but {task}.json beside it counts {summary['n']}; "
            "evaluate again"
        )
    base_samples = read_samples(folder / base / f"{task}.samples.jsonl")
    if shown not in summary["metrics"]:
        raise UserError(
            f"evaluate.tasks.{task}.metric: {shown} isn't measured for this task; choose one of "
            f"{', '.join(metric for metric in METRICS if metric in summary['metrics'])}"
        )
    for metric in METRICS:
        if metric not in summary["metrics"]:
            continue
        pairs = pair(base_samples, samples, metric, str(path))
        correct = pairs.both + pairs.gained
        low, high = wilson_interval(correct, pairs.n)
        yield {
            "run": run["name"],
            "tokens": run["tokens"],
            "task": task,
            "metric": metric,
            "n": pairs.n,
            "items_of_full": summary["items_of_full"],
            "score": pairs.run_score,
            "standard_error": standard_error(correct, pairs.n),
            "ci_low": low,
            "ci_high": high,
            "shown": metric == shown and settings.get("in_table", True),
            "base_score": pairs.base_score,
            "difference": pairs.run_score - pairs.base_score,
            "gained": pairs.gained,
            "lost": pairs.lost,
            "mcnemar_p": None if run["name"] == base else mcnemar_p(pairs.gained, pairs.lost),
            "chance": _chance(samples),
            "published": published if metric == shown else None,
        }


def _bits_per_byte_row(folder: Path, run: dict[str, Any], base: str, corpus: str) -> Row:
    name = f"{BITS_PER_BYTE}.{corpus}"
    measured = read_json(folder / run["name"] / f"{name}.json")
    of_base = read_json(folder / base / f"{name}.json")
    if (measured["documents"], measured["bytes"]) != (of_base["documents"], of_base["bytes"]):
        raise UserError(
            f"{folder / run['name'] / name}.json: measured on {measured['documents']} documents of "
            f"{measured['bytes']} bytes, but the base model on {of_base['documents']} of {of_base['bytes']}; "
            "measure both again"
        )
    return {
        "run": run["name"],
        "tokens": run["tokens"],
        "task": name,
        "metric": BITS_PER_BYTE,
        "n": measured["documents"],
        "score": measured[BITS_PER_BYTE],
        "shown": False,
        "base_score": of_base[BITS_PER_BYTE],
        "difference": measured[BITS_PER_BYTE] - of_base[BITS_PER_BYTE],
    }


def score_rows(
    folder: Path,
    runs: list[dict[str, Any]],
    tasks: dict[str, dict[str, str]],
    corpora: list[str],
    published: dict[str, dict[str, float]],
) -> list[Row]:
    """All rows of scores.csv in the order of runs, tasks, metrics; then bits per byte of each corpus.

    `folder` holds {run}/{task}.json, {task}.samples.jsonl and bits_per_byte.{corpus}.json; `tasks` maps
    a task to its label and the metric that Table 1 shows. The Holm family is every shown metric of every
    trained run. Raises UserError where runs weren't scored on the same items.
    """
    base = base_run(runs)
    rows: list[Row] = []
    for run in runs:
        of_paper = published.get(run["name"], {})
        for task, settings in tasks.items():
            rows += _task_rows(folder, run, base, task, settings, of_paper.get(task))
        rows += [_bits_per_byte_row(folder, run, base, corpus) for corpus in corpora]
    family = [row for row in rows if row["shown"] and row["mcnemar_p"] is not None]
    for row, adjusted in zip(family, holm([row["mcnemar_p"] for row in family]), strict=True):
        row["mcnemar_p_holm"] = adjusted
    return rows


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if name.startswith("mcnemar") else f"{value:.6f}"
    return str(value)


def write_scores(path: Path, rows: list[Row]) -> None:
    """Write scores.csv: shares to 6 decimals, p values to 6 significant digits, unknown values empty."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(name, row.get(name)) for name in COLUMNS] for row in rows)


def read_scores(path: Path) -> list[Row]:
    """Read scores.csv: numbers as int and float, `shown` as bool, empty cells as None."""
    whole = {"tokens", "n", "items_of_full", "gained", "lost"}
    text = {"run", "task", "metric"}

    def value(name: str, cell: str) -> Any:
        if name in text:
            return cell
        if name == "shown":
            return cell == "true"
        if cell == "":
            return None
        return int(cell) if name in whole else float(cell)

    return [{name: value(name, row[name]) for name in COLUMNS} for row in read_rows(path, COLUMNS)]


def shown_rows(scores: list[Row]) -> dict[tuple[str, str], Row]:
    """The rows that Table 1 shows, by (run, task)."""
    return {(row["run"], row["task"]): row for row in scores if row["shown"]}


def pairs_of(row: Row) -> Pairs:
    """The 2 x 2 table behind a row of scores.csv."""
    both = round(row["score"] * row["n"]) - row["gained"]
    return Pairs(both, row["gained"], row["lost"], row["n"] - both - row["gained"] - row["lost"])
