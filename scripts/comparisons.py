import logging
from pathlib import Path

from cpt.command import run
from cpt.report.comparisons import COLUMNS, comparison_rows
from cpt.report.rows import write_rows
from cpt.report.samples import read_all_answers


def comparisons(
    samples: list[Path],
    summaries: list[Path],
    table: Path,
    runs: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    seed: int = 0,
) -> None:
    """Compare every pair of runs on the same items: differences, tests, intervals, what could be detected.

    The paper compares scores without asking how much of a difference is chance.

    Args:
        samples: {task}.samples.jsonl of all runs and tasks, in the order runs x tasks.
        summaries: {task}.json, in the same order.
        table: comparisons.csv to write.
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None: the task's first metric.
        table_tasks: the tasks that are columns of Table 1.
        seed: seed of the resampling.
    """
    answers = read_all_answers(samples, summaries, runs, metrics)
    rows = comparison_rows(runs, metrics, table_tasks, answers, seed)
    write_rows(table, COLUMNS, rows)
    logging.info("%d rows in %s", len(rows), table)


if __name__ == "__main__":
    run(comparisons)
