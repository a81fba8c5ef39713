from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import read_json
from cpt.report import style
from cpt.report.exam import COLUMNS, draw_exam, exam_rows, height_of, read_exam
from cpt.report.rows import write_rows
from cpt.report.scores import read_scores


def exam_scores(
    exam: Path, scores: Path, table: Path, figure: Sequence[Path], runs: dict[str, int], task: str
) -> None:
    """Put the exam's scores beside chance and beside the base model with the document in its context.

    Args:
        exam: exam.json.
        scores: scores.csv.
        table: exam.csv to write.
        figure: files to write, in the formats of their suffixes.
        runs: training tokens of each run.
        task: the column of the exam.
    """
    write_rows(table, COLUMNS, exam_rows(read_json(exam), read_scores(scores), task, runs))
    rows = read_exam(table)
    with style.figure(height_of(rows), figure) as drawn:
        draw_exam(drawn, rows)


if __name__ == "__main__":
    run(exam_scores)
