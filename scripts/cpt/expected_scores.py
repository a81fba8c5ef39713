"""Published scores of base models (paper/expected_scores.csv). Standard library only: Snakemake reads it."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from cpt.errors import UserError


class Expected(NamedTuple):
    """A published score: a model's accuracy, the mean over `tasks`.

    `tolerance` is how much lower the score may be with another prompt, metric or library.
    """

    model: str
    tasks: tuple[str, ...]
    score: float
    tolerance: float
    source: str


def read_expected(path: Path) -> list[Expected]:
    """Read all published scores. Raises UserError naming the line that can't be read."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != Expected._fields:
            raise UserError(f"{path}: expected the columns {', '.join(Expected._fields)}; fix its header")
        scores = []
        for row in reader:
            try:
                score, tolerance = float(row["score"]), float(row["tolerance"])
            except (TypeError, ValueError):
                raise UserError(
                    f"{path}, line {reader.line_num}: score and tolerance must be numbers, but are "
                    f"{row['score']!r} and {row['tolerance']!r}; fix the line"
                ) from None
            if not 0 < score < 1 or not 0 <= tolerance < 1:
                raise UserError(
                    f"{path}, line {reader.line_num}: score and tolerance must be shares of 1, but are "
                    f"{score:g} and {tolerance:g}; fix the line"
                )
            tasks = tuple(row["tasks"].split("+"))
            scores.append(Expected(row["model"], tasks, score, tolerance, row["source"]))
    return scores


def expected_model(base: Any, path: Path) -> str:
    """Returns the model whose scores the config's `base` must reach; "": no check.

    It is base.expected_scores, or base.repo if it is listed. Raises UserError for an unlisted name.
    """
    models = {row.model for row in read_expected(path)}
    model = base.expected_scores
    if model == "none":
        return ""
    if model is not None and model not in models:
        raise UserError(
            f"base.expected_scores: {path.name} has no {model}; it has {', '.join(sorted(models))}; set one "
            "of these, or none"
        )
    repo = getattr(base, "repo", None)
    return model or (repo if repo in models else "")


def tasks_of(model: str, path: Path) -> list[str]:
    """Returns the tasks of a model's published scores."""
    return list(
        dict.fromkeys(task for row in read_expected(path) if row.model == model for task in row.tasks)
    )
