"""Checks that the base model reaches its published scores: a broken model scores near chance, yet trains."""

import logging
import math
from typing import Any, NamedTuple

from cpt.errors import UserError
from cpt.expected_scores import Expected

STANDARD_ERRORS = 3.0  # of a subset's score; one base model in a thousand misses a score by chance
METRICS = ("acc", "acc_norm")


class Comparison(NamedTuple):
    """The base model's score beside a published one, the mean over `tasks` (joined by +).

    `score` is the better of acc and acc_norm, because most publications don't say which they mean. `least` is
    the minimum: the published score minus its tolerance, and minus STANDARD_ERRORS binomial standard errors
    if a subset was scored. `near_chance`: the score is closer to chance than to the published score, and less
    than three standard errors above chance.
    """

    tasks: str
    metric: str
    score: float
    published: float
    least: float
    chance: float
    near_chance: bool
    reached: bool
    source: str


def _error(score: float, results: list[dict[str, Any]]) -> float:
    """Returns the standard error of a mean over tasks scored on subsets without replacement; 0: all items."""
    sizes = [(result["n"], result["items_of_full"]) for result in results]
    return math.sqrt(sum(score * (1 - score) / n * (1 - n / full) for n, full in sizes)) / len(results)


def check_scores(results: dict[str, dict[str, Any]], expected: list[Expected]) -> list[Comparison]:
    """Compare the base model's `results`, by task, with the published scores.

    Skips published scores of tasks that weren't scored.
    """
    rows = []
    for published in expected:
        if not results.keys() >= set(published.tasks):
            continue
        scored = [results[task] for task in published.tasks]
        scores = {
            metric: math.fsum(result["metrics"][metric] for result in scored) / len(scored)
            for metric in METRICS
            if all(metric in result["metrics"] for result in scored)
        }
        metric = max(scores, key=scores.__getitem__)
        score = scores[metric]
        least = published.score - published.tolerance - STANDARD_ERRORS * _error(published.score, scored)
        chance = math.fsum(result["chance"] for result in scored) / len(scored)
        n = min(result["n"] for result in scored)
        near = min(3 * math.sqrt(chance * (1 - chance) / n), (published.score - chance) / 2)
        rows.append(
            Comparison(
                tasks="+".join(published.tasks),
                metric=metric,
                score=score,
                published=published.score,
                least=least,
                chance=chance,
                near_chance=score - chance < near,
                reached=score >= least,
                source=published.source,
            )
        )
    return rows


def log_scores(rows: list[Comparison]) -> None:
    """Log the comparisons, and warn about those that guessing would pass."""
    for row in rows:
        logging.info("%s", row._asdict())
        if row.least <= row.chance:
            logging.warning(
                f"{row.tasks} can't tell a broken model: guessing ({row.chance:.3f}) reaches the least that "
                f"is expected ({row.least:.3f})"
            )


def require_reached(model: str, rows: list[Comparison], add_bos_token: bool, repairs: list[str]) -> None:
    """Raise UserError naming the likely cause unless the model reaches all published scores.

    `repairs` are the import report's lines on repairs of the model's files.
    """
    missed = [row for row in rows if not row.reached]
    if not missed:
        return
    missed_tasks = "; ".join(
        f"{row.tasks} {row.score:.3f} ({row.metric}), published {row.published:.3f}, at least "
        f"{row.least:.3f} expected, chance {row.chance:.3f}"
        for row in missed
    )
    informative = [row for row in rows if row.published - row.chance > 0.08]
    if informative and all(row.near_chance for row in informative):
        cause = (
            "Nearly all is near chance, so weights are missing or of another architecture, or the tokenizer "
            "is another model's. Compare loss_on_known_text in models/base.json with a working model's "
            "(about 3), and take the authors' own weight files"
        )
    else:
        other = "false" if add_bos_token else "true"
        cause = (
            "The model works, but less well than published. Check the beginning-of-sequence token (try "
            f"evaluate.add_bos_token: {other}), the tokenizer, numbers in config.json such as rope_theta, "
            "whether weights are quantised, and the version of the model (base.revision)"
        )
    files = f" What the import repaired: {'; '.join(repairs)}." if repairs else ""
    raise UserError(
        f"the base model misses the scores published for {model}: {missed_tasks}. {cause}.{files} Nothing "
        "was trained. To train it all the same, set base.expected_scores: none"
    )
