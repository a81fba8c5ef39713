import logging
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import read_json
from cpt.report.rows import write_rows
from cpt.report.samples import read_all_answers
from cpt.report.touched import COLUMNS, touched_items, touched_rows


def touched(
    samples: list[Path],
    summaries: list[Path],
    table: Path,
    runs: dict[str, int],
    metrics: dict[str, str | None],
    contamination: Sequence[Path] = (),
    seed: int = 0,
) -> None:
    """Score each run with and without the items that share words with the training text.

    The paper doesn't look for its benchmarks in the training text.

    Args:
        samples: {task}.samples.jsonl of all runs and tasks, in the order runs x tasks.
        summaries: {task}.json, in the same order.
        table: touched.csv to write.
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None: the task's first metric.
        contamination: what decontaminate found in each shard that is trained on (JSON).
        seed: seed of the resampling.
    """
    items = touched_items(map(read_json, contamination))
    answers = read_all_answers(samples, summaries, runs, metrics)
    rows = touched_rows(runs, metrics, answers, items, seed)
    write_rows(table, COLUMNS, rows)
    logging.info("%d rows in %s, %d items touched", len(rows), table, len(items))


if __name__ == "__main__":
    run(touched)
