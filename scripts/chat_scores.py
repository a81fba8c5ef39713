import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cpt.command import run as run_stage
from cpt.files import one_for_each
from cpt.progress import NOTICE
from cpt.report.chat import read_answers, stopped_text
from cpt.report.chat_scores import chat_score_rows, columns_of
from cpt.report.held_out import held_out_rows, read_losses
from cpt.report.rows import write_rows


def chat_scores(
    answers: Sequence[Path],
    losses: Sequence[Path],
    table: Path,
    runs: dict[str, int],
    corpora: list[str],
    seed: int = 0,
) -> None:
    """Count each run's answers that stop and that follow their instruction, beside the run's bits per byte.

    Args:
        answers: answers of each run to prompts with an instruction (JSON lines).
        losses: bits_per_byte.{corpus}.documents.csv of all runs and corpora, in the order runs x corpora.
        table: chat_scores.csv to write.
        runs: training tokens of each run; the base model comes first.
        corpora: corpora whose held-out text was scored.
        seed: seed of the resampling.
    """
    answer_rows = read_answers(answers, list(runs))
    files = dict(one_for_each(product(runs, corpora), losses))
    held_out = {}
    for corpus in corpora:
        loss_rows = held_out_rows([read_losses(files[run, corpus]) for run in runs], seed)
        held_out[corpus] = dict(zip(runs, loss_rows, strict=True))
    write_rows(table, columns_of(corpora), chat_score_rows(answer_rows, runs, held_out))
    for run, rows in answer_rows.items():
        followed = sum(row["followed"] for row in rows)
        logging.log(NOTICE, "%s: %s, %d follow the instruction", run, stopped_text(rows), followed)


if __name__ == "__main__":
    run_stage(chat_scores)
