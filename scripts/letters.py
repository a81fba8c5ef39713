from pathlib import Path

from cpt.command import run
from cpt.report.letters import COLUMNS, letter_rows
from cpt.report.rows import write_rows
from cpt.report.samples import read_all_answers


def letters(
    samples: list[Path], summaries: list[Path], table: Path, runs: dict[str, int], tasks: list[str]
) -> None:
    """Count which letters each run answers, and how often each is right.

    A model of this size prefers some letters, and MMLU then measures that preference.

    Args:
        samples: {task}.samples.jsonl of all runs and tasks, in the order runs x tasks.
        summaries: {task}.json, in the same order.
        table: letters.csv to write.
        runs: training tokens of each run.
        tasks: names of the tasks.
    """
    write_rows(table, COLUMNS, letter_rows(runs, read_all_answers(samples, summaries, runs, tasks)))


if __name__ == "__main__":
    run(letters)
