import logging
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cpt.command import run
from cpt.files import one_for_each, read_json
from cpt.report.samples import read_all_answers
from cpt.report.scores import PUBLISHED_MODEL, read_published, write_scores
from cpt.report.scoring import score_rows


def scores(
    published: Path,
    summaries: list[Path],
    samples: list[Path],
    table: Path,
    runs: dict[str, int],
    metrics: dict[str, str | None],
    table_tasks: list[str],
    corpora: Sequence[str] = (),
    losses: Sequence[Path] = (),
    repo: str | None = None,
    seed: int = 0,
) -> None:
    """Put every score of every run into one table, with intervals and paired tests against the base model.

    Paper section 4.1; the paper itself gives no uncertainties.

    Args:
        published: the paper's Table 1 as CSV.
        summaries: {task}.json of all runs and tasks, in the order runs x tasks.
        samples: {task}.samples.jsonl, in the same order.
        table: scores.csv to write.
        runs: training tokens of each run.
        metrics: the metric of each task that Table 1 shows; None: the task's first metric.
        table_tasks: the tasks that are columns of Table 1.
        corpora: corpora measured in bits per byte.
        losses: bits_per_byte.{corpus}.documents.csv of all runs and corpora, in the order runs x corpora.
        repo: repository of the base model.
        seed: seed of the resampling.
    """
    rows = score_rows(
        runs,
        metrics,
        table_tasks,
        read_all_answers(samples, summaries, runs, metrics),
        {key: read_json(path) for key, path in one_for_each(product(runs, metrics), summaries)},
        dict(one_for_each(product(runs, corpora), losses)),
        # The published scores are of this model's runs alone, whatever another model's runs are called.
        read_published(published) if repo == PUBLISHED_MODEL else {},
        seed,
    )
    write_scores(table, rows)
    logging.info("%d rows in %s", len(rows), table)


if __name__ == "__main__":
    run(scores)
