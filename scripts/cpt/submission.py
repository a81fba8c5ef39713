"""What Snakemake's main process changes before it submits to Slurm: its environment, and its Slurm plugin."""

import logging
import re
import threading
import time
from collections.abc import MutableMapping
from typing import Any

from cpt import gpus

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # set by people and sites, not by a job
# Why sbatch refuses a job that it would take later, such as QOSMaxSubmitJobPerUserLimit.
SUBMIT_LIMIT = re.compile(r"\b(?:Assoc|QOS)(?:Max|Grp)Submit\w*Limit\b")


def leave_allocation(environment: MutableMapping[str, str]) -> str | None:
    """Remove what Slurm sets in a job (`salloc`, `srun`, `sbatch`) from an environment.

    Submitted jobs would inherit its numbers of tasks and CPUs; and its GPUs, where Slurm sets none for them.

    Returns that job's number; None outside jobs, where nothing is removed.
    """
    job = environment.get("SLURM_JOB_ID")
    for name in list(environment) if job else ():
        if name in gpus.VARIABLES or (name.startswith(("SLURM_", "SRUN_")) and name not in KEPT):
            del environment[name]
    return job


def adapt_plugin(seconds: float, logger: logging.Logger) -> None:
    """Make the plugin wait where Slurm limits how many jobs may be submitted, and leave accounts to Slurm.

    Such a refusal would count as a failed attempt, several within a second. The plugin asks sacct and
    sacctmgr about accounts before each job, which fails where they aren't installed; sbatch checks it.

    Args:
        seconds: between two tries to submit the same job.
        logger: Snakemake's.
    """
    import snakemake_executor_plugin_slurm as plugin

    plugin.get_account = lambda logger: None
    plugin.validate_account = lambda account, logger: account
    executor, stopped, noticed = plugin.Executor, threading.Event(), threading.Event()
    report_error, shut_down = executor._report_job_error_threadsafe, executor.shutdown

    def try_later_or_report(self: Any, submitted: Any, message: str) -> None:
        limit = SUBMIT_LIMIT.search(message)
        if limit is None or stopped.is_set():
            return report_error(self, submitted, message)
        if not noticed.is_set():
            noticed.set()
            logger.info(f"Slurm takes no more of your jobs now ({limit[0]}); trying every {seconds:g} s")
        due = time.monotonic() + seconds  # jobs wait in line in few threads, at the same time

        def later() -> None:
            if not stopped.wait(max(0, due - time.monotonic())):
                self.run_job(submitted.job)

        self._job_submission_executor.submit(later)

    def stop_and_shut_down(self: Any) -> None:
        stopped.set()
        self._job_submission_executor.shutdown(wait=False, cancel_futures=True)
        shut_down(self)

    executor._report_job_error_threadsafe, executor.shutdown = try_later_or_report, stop_and_shut_down
