from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.evaluate.gate import check_scores, log_scores, require_reached
from cpt.expected_scores import read_expected
from cpt.files import one_for_each, read_json, write_json
from cpt.provenance import provenance


def check_base(
    scores: Sequence[Path], tasks: list[str], expected: Path, report: Path, model: str, comparison: Path
) -> None:
    """Stop before training if the base model misses the scores that are published for it.

    Args:
        scores: the base model's results of evaluate_tasks.
        tasks: tasks of these results, in the order of the files.
        expected: published scores (CSV).
        report: import report, models/base.json.
        model: the model whose published scores count.
        comparison: JSON file to write.
    """
    results = {task: read_json(file) for task, file in one_for_each(tasks, scores)}
    rows = check_scores(results, [row for row in read_expected(expected) if row.model == model])
    log_scores(rows)
    add_bos_token = any(result["settings"]["add_bos_token"] for result in results.values())
    require_reached(model, rows, add_bos_token, read_json(report)["repairs"])
    origin = provenance({"model": model})
    write_json(comparison, {"model": model, "scores": [row._asdict() for row in rows], "provenance": origin})


if __name__ == "__main__":
    run(check_base)
