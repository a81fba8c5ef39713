"""Does the base model reach its published scores? A broken one is near chance, and trains all the same."""

import math
from pathlib import Path
from typing import Any

from cpt.errors import UserError
from cpt.expected_scores import Expected
from cpt.files import read_json

STANDARD_ERRORS = 3.0  # of a subset of the items; one base model in a thousand misses a score by chance
METRICS = ("acc", "acc_norm")


def _error(score: float, results: list[dict[str, Any]]) -> float:
    """Standard error of a mean over tasks, each scored on a subset without replacement; 0 for all items."""
    variance = 0.0
    for result in results:
        n, full = result["n"], result["items_of_full"]
        variance += score * (1 - score) / n * (1 - n / full)
    return math.sqrt(variance) / len(results)


def check_scores(folder: Path, expected: list[Expected]) -> list[dict[str, Any]]:
    """Compare the base model's scores in `folder` (TASK.json) with the published ones; one row for each.

    A row's `score` is the better of acc and acc_norm, because most publications don't say which they mean.
    `least` is what it must reach: the published score less its tolerance, and less STANDARD_ERRORS binomial
    standard errors where a subset was scored. Published scores with tasks that weren't scored are left out.
    """
    rows = []
    for published in expected:
        files = [folder / f"{task}.json" for task in published.tasks]
        if not all(file.exists() for file in files):
            continue
        results = [read_json(file) for file in files]
        scores = {
            metric: math.fsum(result["metrics"][metric] for result in results) / len(results)
            for metric in METRICS
            if all(metric in result["metrics"] for result in results)
        }
        metric = max(scores, key=scores.__getitem__)
        least = published.score - published.tolerance - STANDARD_ERRORS * _error(published.score, results)
        chance = math.fsum(result["chance"] for result in results) / len(results)
        n = min(result["n"] for result in results)
        rows.append(
            {
                "tasks": "+".join(published.tasks),
                "metric": metric,
                "score": scores[metric],
                "published": published.score,
                "least": least,
                "chance": chance,
                # Nearer to chance than the published score is, and within three standard errors of it.
                "near_chance": scores[metric] - chance
                < min(3 * math.sqrt(chance * (1 - chance) / n), (published.score - chance) / 2),
                "reached": scores[metric] >= least,
                "source": published.source,
            }
        )
    return rows


def require_reached(model: str, rows: list[dict[str, Any]], add_bos_token: bool, mended: list[str]) -> None:
    """Raise UserError naming the likely cause unless all published scores are reached.

    `mended` are the import report's lines on what was mended in the model's files.
    """
    missed = [row for row in rows if not row["reached"]]
    if not missed:
        return
    told = "; ".join(
        f"{row['tasks']} {row['score']:.3f} ({row['metric']}), published {row['published']:.3f}, at least "
        f"{row['least']:.3f} expected, chance {row['chance']:.3f}"
        for row in missed
    )
    telling = [row for row in rows if row["published"] - row["chance"] > 0.08]
    if telling and all(row["near_chance"] for row in telling):
        cause = (
            "Nearly everything is near chance, so the import is broken: weights that are missing or belong "
            "to another architecture (an embedding that isn't tied, a bad conversion to safetensors), or "
            "another model's tokenizer. Compare loss_on_known_text in models/base.json with a working "
            "model's (about 3), and take the authors' own weight files"
        )
    else:
        other = "false" if add_bos_token else "true"
        cause = (
            "The model works, but less well than published. Likely causes: the beginning-of-sequence token "
            f"(try evaluate.add_bos_token: {other}), a tokenizer that splits text in another way than the "
            "one it was trained with, a wrong number in config.json such as rope_theta, quantised weights, "
            "or another version of the model (base.revision)"
        )
    files = f" What the import mended: {'; '.join(mended)}." if mended else ""
    raise UserError(
        f"the base model misses the scores published for {model}: {told}. {cause}.{files} Nothing was "
        "trained. To train it all the same, set base.expected_scores: none"
    )
