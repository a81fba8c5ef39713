"""Sum up what each rule's jobs took, from Snakemake's benchmark files."""

import argparse
from pathlib import Path

import pandas as pd

from cpt.command import command_parser, run
from cpt.errors import UserError
from cpt.files import write_text

COLUMNS = {"s": "wall_seconds", "cpu_time": "cpu_seconds", "max_rss": "peak_memory_mb"}


def main(arguments: argparse.Namespace) -> None:
    """Write rule,jobs,wall_seconds,cpu_seconds,peak_memory_mb; peak memory is the largest job's."""
    files = sorted(arguments.timings.rglob("*.tsv"))
    if not files:
        raise UserError(f"{arguments.timings}: no benchmark files; run the experiment first")
    rows = pd.concat(
        pd.read_csv(file, sep="\t", na_values="-").assign(
            rule=file.relative_to(arguments.timings).parts[0].removesuffix(".tsv")
        )
        for file in files
    )
    table = rows.rename(columns=COLUMNS).groupby("rule", sort=True)
    summary = table.agg(
        jobs=("rule", "size"),
        wall_seconds=("wall_seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_memory_mb=("peak_memory_mb", "max"),
    )
    summary = summary.sort_values("wall_seconds", ascending=False).round(1)
    write_text(arguments.output, summary.to_csv())


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--timings", type=Path, required=True, help="folder of benchmark files")
    parser.add_argument("--output", type=Path, required=True)
    run(main, parser)
