import json
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.config_evaluate import Task
from cpt.report.labels import base_note
from cpt.report.scores import read_published, read_scores
from cpt.report.sums import sums_in_words
from cpt.report.tables import Table1, write_csv, write_latex, write_markdown


def table1(
    scores: Path,
    published: Path,
    base: Path,
    csv: Path,
    markdown: Path,
    latex: Path,
    runs: dict[str, int],
    tasks: dict[str, Task],
    model: str,
    merges: dict[str, dict[str, float]] | None = None,
    choices: Sequence[Path] = (),
) -> None:
    """Print the scores as the paper's Table 1 (section 4.1) in three formats.

    Args:
        scores: scores.csv.
        published: the paper's Table 1 as CSV.
        base: models/base.json.
        csv: table to write.
        markdown: the same table in Markdown.
        latex: the same table in LaTeX.
        runs: training tokens of each run.
        tasks: the tasks that are columns of Table 1.
        model: name of the base model.
        merges: coefficients by model, of each run that is a sum of models.
        choices: reports of choose_summands, for sums that are the mean of chosen models.
    """
    sums = sums_in_words(merges or {}, choices, runs)
    note = base_note({"label": model}, json.loads(base.read_text(encoding="utf-8")))
    model = f"{model}, {note}" if note else model
    table = Table1(read_scores(scores), runs, tasks, model, read_published(published), sums)
    write_csv(csv, table)
    write_markdown(markdown, table)
    write_latex(latex, table)


if __name__ == "__main__":
    run(table1)
