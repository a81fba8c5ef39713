"""What each rule's jobs took, from Snakemake's benchmark files."""

from pathlib import Path

import pandas as pd

from cpt.errors import UserError
from cpt.report.merged import belongs, read_merged

COLUMNS = {"s": "wall_seconds", "cpu_time": "cpu_seconds", "max_rss": "peak_memory_mb"}


def summed_timings(root: Path) -> pd.DataFrame:
    """Rows by rule, the longest first: jobs, wall_seconds, cpu_seconds (summed), peak_memory_mb (of one job).

    `root` is the results folder. Jobs of runs, mixtures and corpora that its config doesn't have are left
    out. Raises UserError if there are no benchmark files.
    """
    folder, config = root / "timings", read_merged(root)
    found = sorted(folder.rglob("*.tsv"))
    files = [file for file in found if belongs(file.relative_to(root).as_posix(), config)]
    if not files:
        raise UserError(f"{folder}: no benchmark files; run the experiment first")
    rows = pd.concat(
        pd.read_csv(file, sep="\t", na_values="-").assign(
            rule=file.relative_to(folder).parts[0].removesuffix(".tsv")
        )
        for file in files
    )
    summary = (
        rows.rename(columns=COLUMNS)
        .groupby("rule", sort=True)
        .agg(
            jobs=("rule", "size"),
            wall_seconds=("wall_seconds", "sum"),
            cpu_seconds=("cpu_seconds", "sum"),
            peak_memory_mb=("peak_memory_mb", "max"),
        )
    )
    return summary.sort_values("wall_seconds", ascending=False).round(1)
