"""Sum up what each rule's jobs took, from Snakemake's benchmark files."""

import argparse
from pathlib import Path

from cpt.command import command_parser, run
from cpt.files import write_text
from cpt.report.timings import summed_timings


def main(arguments: argparse.Namespace) -> None:
    """Write rule,jobs,wall_seconds,cpu_seconds,peak_memory_mb; peak memory is the largest job's."""
    write_text(arguments.output, summed_timings(arguments.results).to_csv())


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the finished results")
    parser.add_argument("--output", type=Path, required=True)
    run(main, parser)
