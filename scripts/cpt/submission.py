"""Changes to Snakemake's main process before it submits to Slurm: to its environment and its plugin."""

import logging
import re
import threading
import time
from collections.abc import MutableMapping
from typing import Any

from cpt import gpus

KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # set by people and sites, not by a job
# Reasons why sbatch refuses a job that it would accept later, such as QOSMaxSubmitJobPerUserLimit.
SUBMIT_LIMIT = re.compile(r"\b(?:Assoc|QOS)(?:Max|Grp)Submit\w*Limit\b")


def leave_allocation(environment: MutableMapping[str, str]) -> str | None:
    """Remove the variables that Slurm sets in a job (`salloc`, `srun`, `sbatch`) from an environment.

    Submitted jobs would inherit its numbers of tasks and CPUs, and its GPUs if Slurm sets none for them.

    Returns that job's number; None outside jobs, where nothing is removed.
    """
    job = environment.get("SLURM_JOB_ID")
    for name in list(environment) if job else ():
        if name in gpus.VARIABLES or (name.startswith(("SLURM_", "SRUN_")) and name not in KEPT):
            del environment[name]
    return job


def adapt_plugin(seconds: float, logger: logging.Logger) -> None:
    """Make the plugin wait when Slurm's limit of submitted jobs is reached, and leave accounts to Slurm.

    Otherwise each such refusal counts as a failed attempt, several within a second. And the plugin asks sacct
    and sacctmgr about accounts before each job, which fails if they aren't installed; sbatch checks accounts.

    Args:
        seconds: time between two tries to submit the same job.
        logger: Snakemake's logger.
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
        due = time.monotonic() + seconds  # set now: jobs queue for few threads, but wait together

        def later() -> None:
            if not stopped.wait(max(0, due - time.monotonic())):
                self.run_job(submitted.job)

        self._job_submission_executor.submit(later)

    def stop_and_shut_down(self: Any) -> None:
        stopped.set()
        self._job_submission_executor.shutdown(wait=False, cancel_futures=True)
        shut_down(self)

    executor._report_job_error_threadsafe, executor.shutdown = try_later_or_report, stop_and_shut_down
