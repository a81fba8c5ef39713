from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.exam import read_exam
from cpt.report.held_out_text import read_overlap
from cpt.report.likelihoods import read_verdicts
from cpt.report.scores import read_scores
from cpt.report.summary import summary_text


def summary(
    scores: Path,
    answers_text: Path,
    text: Path,
    runs: dict[str, int],
    labels: dict[str, str],
    roles: dict[str, str],
    overlap: Path,
    exam: Path | None = None,
) -> None:
    """Say in plain text what an experiment moved, for the terminal.

    Args:
        scores: scores.csv.
        answers_text: answers.md.
        text: summary.txt to write.
        runs: training tokens of each run.
        labels: the name of each task.
        roles: whether a corpus is domain or general text, by its name.
        overlap: how much held-out text is in training text (.json).
        exam: exam.csv, if there is an exam.
    """
    rows = read_exam(exam) if exam else []
    verdicts, shares = read_verdicts(answers_text), read_overlap(overlap)
    write_text(text, summary_text(read_scores(scores), rows, verdicts, runs, labels, roles, shares))


if __name__ == "__main__":
    run(summary)
