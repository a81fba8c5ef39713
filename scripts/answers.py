import logging
from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.likelihoods import COLUMNS, likelihood_rows, text_of
from cpt.report.rows import write_rows
from cpt.report.samples import read_all_answers


def answers(
    samples: list[Path],
    summaries: list[Path],
    table: Path,
    text: Path,
    runs: dict[str, int],
    labels: dict[str, str],
) -> None:
    """Measure what each run changes in the likelihood of right and wrong answers, and say what that shows.

    The paper looks at accuracies alone, which move only where the likeliest answer changes.

    Args:
        samples: {task}.samples.jsonl of all runs and tasks, in the order runs x tasks.
        summaries: {task}.json, in the same order.
        table: answers.csv to write.
        text: what the table shows, in words (.md), to write.
        runs: training tokens of each run.
        labels: the name of each task.
    """
    rows = likelihood_rows(runs, read_all_answers(samples, summaries, runs, labels))
    write_rows(table, COLUMNS, rows)
    write_text(text, text_of(rows, labels))
    logging.info("%d rows in %s", len(rows), table)


if __name__ == "__main__":
    run(answers)
