import logging
import subprocess
import time
from pathlib import Path

from cpt.command import run
from cpt.errors import UserError
from cpt.slurm import living_workflow, stray_jobs


def resume(cancel: bool = False) -> None:
    """Prepare a folder to resume after its workflow was killed while Slurm jobs ran: `make resume`.

    It cancels jobs that wait in the queue, and waits for those that run: Snakemake uses what they finish, and
    would otherwise start them a second time.

    Args:
        cancel: cancel the running jobs as well; training then writes a checkpoint.
    """
    folder, reported = Path.cwd(), set()
    if (number := living_workflow(folder)) is not None:
        raise UserError(
            f"Snakemake still works here (process {number}), so nothing has to be resumed; let it "
            "finish, or stop it first"
        )
    while jobs := stray_jobs(folder):
        unwanted = [job.number for job in jobs if cancel or job.state == "PENDING"]
        if unwanted:
            subprocess.run(["scancel", *unwanted], check=True)
        for job in jobs:
            if job.number not in reported:
                doing = "cancelled" if job.number in unwanted else "waiting for"
                logging.info(f"{doing} job {job.number}: {job.comment} ({job.state.lower()})")
                reported.add(job.number)
        time.sleep(2)


if __name__ == "__main__":
    run(resume)
