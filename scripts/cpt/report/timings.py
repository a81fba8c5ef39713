"""What each rule's jobs took, from Snakemake's benchmark files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cpt.errors import UserError


def summed_timings(files: Sequence[Path], folder: Path) -> pd.DataFrame:
    """Rows by rule, the longest first: jobs, wall_seconds, cpu_seconds (summed), peak_memory_mb (of one job).

    Args:
        files: Snakemake's benchmark files.
        folder: where they are; a rule's file or folder in it has the rule's name.

    Raises:
        UserError: there are no files.
    """
    if not files:
        raise UserError(f"{folder}: no benchmark files; run the experiment first")
    rows = pd.concat(
        pd.read_csv(file, sep="\t", na_values="-").assign(
            rule=file.relative_to(folder).parts[0].removesuffix(".tsv")
        )
        for file in files
    )
    summary = rows.groupby("rule", sort=True).agg(
        jobs=("rule", "size"),
        wall_seconds=("s", "sum"),
        cpu_seconds=("cpu_time", "sum"),
        peak_memory_mb=("max_rss", "max"),
    )
    return summary.sort_values("wall_seconds", ascending=False).round(1)
