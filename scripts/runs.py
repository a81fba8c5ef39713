from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import one_for_each, read_json
from cpt.report.rows import write_rows
from cpt.report.runs import COLUMNS, run_row


def runs(table: Path, summaries: Sequence[Path] = (), metrics: Sequence[Path] = ()) -> None:
    """Write a table of what each training run took and reached (paper section 4.2.2).

    Args:
        table: runs.csv to write; only a header where no run was trained.
        summaries: run.json of each trained run.
        metrics: metrics.csv of each, in the same order.
    """
    files = one_for_each(summaries, metrics)
    write_rows(table, COLUMNS, [run_row(read_json(summary), losses) for summary, losses in files])


if __name__ == "__main__":
    run(runs)
