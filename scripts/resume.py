"""Prepare a folder for going on after its workflow was killed while Slurm jobs ran: `make resume`.

Jobs that wait in the queue are cancelled. Those that run are waited for (or cancelled too: --cancel; training
then writes a checkpoint): Snakemake takes up what they finish, and would otherwise start them a second time.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from cpt.errors import UserError
from cpt.slurm import stray_jobs


def living_workflow(folder: Path) -> int | None:
    """The process number of a Snakemake on this machine that works in `folder`, jobs aside."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "--mode" in words or (process / "cwd").readlink() != folder:
                continue
        except OSError:
            continue
        if any(Path(word).name == "snakemake" for word in words[:4]):
            return int(process.name)
    return None


def main() -> None:
    """Wait until no job of this folder is left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cancel", action="store_true", help="cancel the running jobs as well")
    arguments = parser.parse_args()
    folder = Path.cwd()
    if (number := living_workflow(folder)) is not None:
        sys.exit(
            f"error: Snakemake still works here (process {number}), so nothing has to be resumed; let it "
            "finish, or stop it first"
        )
    told = set()
    while jobs := stray_jobs(folder):
        unwanted = [job.number for job in jobs if arguments.cancel or job.state == "PENDING"]
        if unwanted:
            subprocess.run(["scancel", *unwanted], check=True)
        for job in jobs:
            if job.number not in told:
                doing = "cancelled" if job.number in unwanted else "waiting for"
                print(f"{doing} job {job.number}: {job.comment} ({job.state.lower()})", flush=True)
                told.add(job.number)
        time.sleep(2)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
