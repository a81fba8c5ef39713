from pathlib import Path

from cpt.command import run
from cpt.report.rows import write_rows
from cpt.report.samples import read_all_answers
from cpt.report.seeds import COLUMNS, seed_rows


def seeds(
    samples: list[Path],
    summaries: list[Path],
    table: Path,
    runs: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    groups: dict[str, list[str]],
    base: str,
) -> None:
    """Separate what seeds and what items do to the scores of runs that differ only in their seed.

    Args:
        samples: {task}.samples.jsonl of all runs and tasks, in the order runs x tasks.
        summaries: {task}.json, in the same order.
        table: seeds.csv to write.
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None: the task's first metric.
        table_tasks: the tasks that are columns of Table 1.
        groups: runs that repeat one another, by the run that their `replicate_of` names.
        base: name of the base model's run.
    """
    answers = read_all_answers(samples, summaries, runs, metrics)
    write_rows(table, COLUMNS, seed_rows(groups, base, metrics, table_tasks, answers))


if __name__ == "__main__":
    run(seeds)
