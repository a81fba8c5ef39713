from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.report.runs import write_runs


def runs(table: Path, summaries: Sequence[Path] = (), metrics: Sequence[Path] = ()) -> None:
    """Put what each training run took and reached into one table (paper section 4.2.2).

    Args:
        table: runs.csv to write.
        summaries: run.json of each trained run.
        metrics: metrics.csv of each, in the same order.
    """
    write_runs(table, summaries, metrics)


if __name__ == "__main__":
    run(runs)
