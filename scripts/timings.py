from collections.abc import Sequence
from pathlib import Path

from cpt.command import run
from cpt.files import write_text
from cpt.report.timings import summed_timings


def timings(timings: Path, table: Path, measured: Sequence[Path] = ()) -> None:
    """Sum up what each rule's jobs took, from Snakemake's benchmark files.

    Args:
        timings: folder of the benchmark files; a rule's file or folder in it has the rule's name.
        table: CSV to write: rule, jobs, wall_seconds, cpu_seconds, peak_memory_mb (of the largest job).
        measured: the benchmark files.
    """
    write_text(table, summed_timings(measured, timings).to_csv())


if __name__ == "__main__":
    run(timings)
