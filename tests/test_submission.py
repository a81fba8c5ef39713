"""What changes before jobs are submitted to Slurm: the environment, and what the plugin does at a limit."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from cpt.submission import SUBMIT_LIMIT, adapt_plugin, leave_allocation


def test_environment_of_a_job_is_left():
    rest = {"PATH": "/bin", "SBATCH_ACCOUNT": "mine", "SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "b"}
    environment = rest | {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SRUN_CPUS_PER_TASK": "3"}
    environment |= {"CUDA_VISIBLE_DEVICES": "3", "ROCR_VISIBLE_DEVICES": "3"}
    assert leave_allocation(environment) == "7" and environment == rest
    outside = {"SLURM_ACCOUNT": "mine", "CUDA_VISIBLE_DEVICES": "3"}
    assert leave_allocation(outside) is None and len(outside) == 2


@pytest.mark.parametrize(
    ("limit", "waits"),
    [
        ("QOSMaxSubmitJobPerUserLimit", True),
        ("QOSMaxSubmitJobPerAccountLimit", True),
        ("AssocMaxSubmitJobLimit", True),
        ("AssocGrpSubmitJobsLimit", True),
        ("QOSGrpSubmitJobsLimit", True),
        ("QOSMaxWallDurationPerJobLimit", False),  # such a job is never taken
        ("AssocMaxNodesPerJobLimit", False),
    ],
)
def test_limits_that_are_waited_for(limit, waits):
    message = (
        f"sbatch: error: {limit}\nsbatch: error: Job violates accounting/QOS policy (job submit limit, ...)"
    )
    assert bool(SUBMIT_LIMIT.search(message)) == waits


class Executor:
    """The part of the plugin's executor that submits jobs, to a Slurm with prepared answers."""

    def __init__(self, *answers: str):
        self.answers, self.errors = list(answers), []
        self._job_submission_executor = ThreadPoolExecutor(1)

    def run_job(self, job: str) -> None:
        if answer := self.answers.pop(0):
            self._report_job_error_threadsafe(SimpleNamespace(job=job), answer)

    def _report_job_error_threadsafe(self, submitted: SimpleNamespace, message: str) -> None:
        self.errors.append((submitted.job, message))

    def shutdown(self) -> None:
        self._job_submission_executor.shutdown(wait=True)


LIMIT = "SLURM sbatch failed. The error message was 'sbatch: error: AssocMaxSubmitJobLimit'."


@pytest.fixture
def adapted(monkeypatch) -> type[Executor]:
    fresh = type("Fresh", (Executor,), dict(vars(Executor)))
    for name in ("get_account", "validate_account"):
        monkeypatch.setattr(plugin, name, None)
    monkeypatch.setattr(plugin, "Executor", fresh)
    adapt_plugin(0.01, logging.getLogger("snakemake"))
    return fresh


def test_a_job_refused_for_a_limit_is_submitted_later(adapted, caplog):
    caplog.set_level(logging.INFO, "snakemake")
    executor = adapted(LIMIT, LIMIT, "")
    executor.run_job("a")
    while executor.answers:
        time.sleep(0.01)
    assert executor.errors == [] and len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        "Slurm takes no more of your jobs now (AssocMaxSubmitJobLimit); trying"
    )
    executor.answers = ["Invalid qos"]
    executor.run_job("b")
    assert executor.errors == [("b", "Invalid qos")]


def test_many_refused_jobs_wait_at_the_same_time(adapted):
    adapt_plugin(1, logging.getLogger("snakemake"))
    executor = adapted(*[LIMIT] * 20, *[""] * 20)
    began = time.monotonic()
    for number in range(20):
        executor.run_job(str(number))
    while executor.answers:
        time.sleep(0.01)
    assert executor.errors == [] and time.monotonic() - began < 10  # 20 where one waited after the other


def test_a_waiting_job_is_given_up_when_snakemake_stops(adapted):
    executor = adapted(*[LIMIT] * 1000)
    executor.run_job("a")
    executor.run_job("b")
    executor.shutdown()
    assert len(executor.errors) <= 1 and len(executor.answers) > 900


def test_accounts_are_left_to_slurm(adapted):
    assert plugin.get_account(None) is None and plugin.validate_account("mine", None) == "mine"


def test_the_plugin_has_what_is_changed():
    assert {"_report_job_error_threadsafe", "shutdown", "run_job"} <= vars(plugin.Executor).keys()
    assert "_job_submission_executor" in plugin.Executor.__post_init__.__code__.co_names
    assert {"get_account", "validate_account"} <= set(plugin.Executor.get_account_arg.__code__.co_names)
