from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.command import run
from cpt.files import write_text
from cpt.frozen import read_record
from cpt.report.release_comparison import COLUMNS, Measured, change_rows, comparison_page, require_tokenizer
from cpt.report.rows import write_rows


def compare(
    record: Path,
    models: Sequence[Path],
    base_model: Path,
    base_report: Path,
    samples: list[Path],
    summaries: list[Path],
    losses: Sequence[Path],
    data: Path,
    page: Path,
    table: Path,
    base: str,
    pairs: dict[str, str],
    budgets: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    labels: dict[str, str],
    corpora: Sequence[str],
    held_out: dict[str, Any],
    seed: int = 0,
) -> None:
    """Compare a frozen release with the runs of these results, on the same items and held-out text.

    Args:
        record: release.json.
        models: the release's models.
        base_model: folder of the base model.
        base_report: models/base.json of these results.
        samples: {task}.samples.jsonl of the base model, then of each pair's old and new model, by task.
        summaries: {task}.json, in the same order.
        losses: bits_per_byte.{corpus}.documents.csv of the same models, by corpus.
        data: data.csv.
        page: compare.md to write.
        table: compare.csv to write.
        base: the run that is the base model.
        pairs: for each run, the name under which the release's model of that run was scored.
        budgets: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None: the task's first metric.
        table_tasks: the tasks that are columns of Table 1.
        labels: names of the tasks.
        corpora: corpora measured in bits per byte.
        held_out: how text is held out of each corpus.
        seed: seed of the resampling.
    """
    release = read_record(record.parent)
    require_tokenizer(release["name"], models, base_model)
    measured = Measured(base, pairs, metrics, table_tasks, corpora)
    frozen_tokens = {old: release["runs"][new] for new, old in pairs.items()}
    tokens = {base: 0, **frozen_tokens, **{new: budgets[new] for new in pairs}}
    rows = change_rows(measured, tokens, samples, summaries, losses, seed)
    write_rows(table, COLUMNS, rows)
    reports = (record.parent / "base.json", base_report)
    write_text(
        page, comparison_page(release, rows, labels, reports, (record.parent / "data.csv", data), held_out)
    )


if __name__ == "__main__":
    run(compare)
