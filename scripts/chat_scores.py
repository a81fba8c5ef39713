import logging
from collections.abc import Sequence
from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import one_for_each, read_json
from cpt.progress import NOTICE
from cpt.report.chat import read_answers, stopped_text
from cpt.report.chat_scores import chat_score_rows, columns_of
from cpt.report.rows import write_rows


def chat_scores(
    answers: Sequence[Path], bits: Sequence[Path], table: Path, runs: dict[str, int], corpora: list[str]
) -> None:
    """Count how many answers of each run stop and follow their instruction, beside its bits per byte.

    Args:
        answers: answers of each run to prompts with an instruction (JSON lines).
        bits: bits_per_byte.{corpus}.json of all runs and corpora, in the order runs x corpora.
        table: chat_scores.csv to write.
        runs: training tokens of each run; the base model comes first.
        corpora: whose held-out text was scored.
    """
    given = read_answers(answers, list(runs))
    pairs = [(run, corpus) for run in runs for corpus in corpora]
    measured: dict[str, dict[str, float]] = {run: {} for run in runs}
    for (run, corpus), file in one_for_each(pairs, bits):
        measured[run][corpus] = read_json(file)["bits_per_byte"]
    write_rows(table, columns_of(corpora), chat_score_rows(given, runs, measured))
    for run, rows in given.items():
        followed = sum(row["followed"] for row in rows)
        logging.log(NOTICE, "%s: %s, %d follow the instruction", run, stopped_text(rows), followed)


if __name__ == "__main__":
    run_stage(chat_scores)
