"""A real Slurm loses jobs, nodes and the workflow itself: the models and Table 1 stay the same."""

import signal
import subprocess
from contextlib import suppress

import psutil
import pytest
from cluster import Cluster, missing
from slurm_clone import (
    RUNS,
    TABLE1,
    assert_as_undisturbed,
    assert_same_models,
    hold,
    jobs,
    wait_for,
)


def snakemake_of(process: subprocess.Popen) -> psutil.Process:
    """The Snakemake behind nsenter."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a child may have ended
            if "-m" in child.cmdline():
                return child
    raise AssertionError("Snakemake doesn't run")


def test_cancelled_job_lost_node_and_killed_workflow(untrained, finished, cluster):
    """Three runs train at once: one job is cancelled, one loses a node. When both runs have ended, Snakemake
    is killed while the third trains. `make resume` waits for its job and resumes: nothing runs twice."""
    models = [f"results/models/{run}" for run in RUNS]
    workflow = untrained.start(cluster, *models)
    one, two, zero = hold(untrained, *RUNS)
    cluster.run("scancel", str(untrained.training_jobs("one-node")[0]))
    wait_for(one.got_stop_signal, "the cancelled job gets its signal")
    cluster.kill_node("n2")
    one.release()
    wait_for(one.gone, "the cancelled job stops")
    cluster.wait_until_down("n2")
    two.release()
    cluster.start_node("n2")
    for run in ("one-node", "two-nodes"):
        wait_for((untrained.results / "runs" / run / "run.json").exists, f"{run} ends")
        log = (untrained.results / "logs" / "train" / f"{run}.log").read_text()
        assert "continuing after step" in log
    states = [jobs(cluster)[untrained.training_jobs(run)[0]]["JobState"] for run in RUNS]
    assert states == ["CANCELLED", "NODE_FAIL", "RUNNING"]

    snakemake_of(workflow).send_signal(signal.SIGKILL)
    workflow.wait()
    # Without the lock, Snakemake would start the third run again, beside the job that trains it.
    assert untrained.start(cluster, *models, "--nolock").wait() != 0
    assert "Slurm jobs of an earlier workflow in this folder" in untrained.printed()
    resumed = untrained.resume(cluster, targets=models)
    wait_for(lambda: "waiting for job" in untrained.printed(), "resume finds the job")
    zero.release()
    assert resumed.wait() == 0, untrained.printed()[-5000:]
    assert_same_models(untrained, finished)
    assert [len(untrained.training_jobs(run)) for run in RUNS] == [2, 2, 1]


@pytest.mark.slurm_full
def test_run_of_several_time_limits(untrained, finished, cluster):
    """Training writes a checkpoint at the first limit's warning; at the second no process reacts before the
    end. Slurm continues stopped processes before it kills them, so some may still write a checkpoint and
    exit."""
    workflow = untrained.start(cluster, TABLE1, CPT_SLURM_TRAIN_MINUTES="2")
    (held,) = hold(untrained, "zero-3")
    wait_for(held.got_stop_signal, "Slurm warns", 180)
    held.release()
    wait_for(held.gone, "the warned job stops")
    (held,) = hold(untrained, "zero-3", after=last_checkpoint(untrained, "zero-3"))
    wait_for(held.gone, "the job is killed", 240)
    assert workflow.wait() == 0, untrained.printed()[-5000:]
    assert_as_undisturbed(untrained, finished)
    states = [jobs(cluster)[number]["JobState"] for number in untrained.training_jobs("zero-3")]
    assert states in (["FAILED", "TIMEOUT", "COMPLETED"], ["FAILED", "FAILED", "COMPLETED"])


@pytest.mark.slurm_full
def test_jobs_are_cancelled_by_ctrl_c_and_by_resume_on_request(untrained, finished, cluster):
    """Ctrl-C cancels the jobs. A killed Snakemake can't; then `make resume RESUME=--cancel` does."""
    workflow = untrained.start(cluster, TABLE1)
    (held,) = hold(untrained, "zero-3")
    snakemake_of(workflow).send_signal(signal.SIGINT)
    wait_for(held.got_stop_signal, "the job gets its signal")
    held.release()
    wait_for(held.gone, "the job stops")
    assert workflow.wait() != 0
    wait_for(lambda: not cluster.run("squeue", "-h").strip(), "the queue is empty")

    workflow = untrained.start(cluster, TABLE1)
    (held,) = hold(untrained, "zero-3", after=last_checkpoint(untrained, "zero-3"))
    snakemake_of(workflow).send_signal(signal.SIGKILL)
    workflow.wait()
    resumed = untrained.resume(cluster, "RESUME=--cancel")
    wait_for(held.got_stop_signal, "resume cancels the job")
    held.release()
    assert resumed.wait() == 0, untrained.printed()[-5000:]
    assert "cancelled job" in untrained.printed()
    assert_as_undisturbed(untrained, finished)
    states = [jobs(cluster)[number]["JobState"] for number in untrained.training_jobs("zero-3")]
    assert states == ["CANCELLED", "CANCELLED", "COMPLETED"]


def last_checkpoint(clone, run: str) -> int:
    """The step of the newest checkpoint."""
    checkpoints = clone.results / "checkpoints" / run / "checkpoints"
    return max(int(path.name[5:]) for path in checkpoints.glob("step-*"))


@pytest.mark.slurm_full
def test_out_of_memory_gets_more_at_the_next_attempt(untrained, finished, cluster):
    memory = "train:mem_mb=900 * attempt ** 3"  # two training processes and a Snakemake take about 1,200
    untrained.run(cluster, TABLE1, "--set-resources", memory)
    assert_as_undisturbed(untrained, finished)
    attempts = [jobs(cluster)[number] for number in untrained.training_jobs("one-node")]
    assert [job["JobState"] for job in attempts] == ["FAILED", "COMPLETED"]
    assert ["mem=900M" in attempts[0]["TRES"], "mem=7200M" in attempts[1]["TRES"]] == [True, True]
    slurm_log = untrained.folder / ".snakemake" / "slurm_logs" / "rule_train" / "one-node"
    assert "exceeded" in (slurm_log / f"{untrained.training_jobs('one-node')[0]}.log").read_text()


@pytest.mark.slurm_full
def test_preempted_and_requeued(untrained, finished, tmp_path_factory):
    """Slurm itself restarts the job two minutes later; Snakemake waits."""
    settings = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE", "JobRequeue": "1"}
    with Cluster(tmp_path_factory.mktemp("preempting") / "c", settings=settings) as cluster:
        workflow = untrained.start(cluster, TABLE1)
        (held,) = hold(untrained, "zero-3")
        cluster.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1")
        wait_for(held.got_stop_signal, "the job is preempted")
        held.release()
        assert workflow.wait() == 0, untrained.printed()[-5000:]
        (number,) = untrained.training_jobs("zero-3")
        job = jobs(cluster)[number]
        assert job["JobState"] == "COMPLETED" and int(job["Restarts"]) == 1
    assert "continuing after step" in (untrained.results / "logs" / "train" / "zero-3.log").read_text()
    assert_as_undisturbed(untrained, finished)


@pytest.mark.slurm_full
def test_with_slurmdbd_and_accounts(untrained, finished, tmp_path_factory):
    if reason := missing(database=True):
        pytest.skip(f"no Slurm database: {reason}")
    with Cluster(tmp_path_factory.mktemp("database") / "c", database=True) as cluster:
        refused = untrained.start(cluster, "preflight", CPT_SLURM_ACCOUNT="nobodys")
        assert refused.wait() != 0 and "set CPT_SLURM_ACCOUNT to one of project" in untrained.printed()
        untrained.run(cluster, TABLE1, "--slurm-status-command", "sacct", CPT_SLURM_ACCOUNT="project")
        columns = "--format=JobID,Account,Partition,State,AllocTRES%60"
        listed = cluster.run("sacct", "--allocations", "--noheader", "--parsable2", columns)
    rows = [line.split("|") for line in listed.splitlines()]
    submitted = [row for row in rows if int(row[0]) in untrained.all_jobs()]
    assert len(submitted) == 9  # three runs, two scores each
    assert {tuple(row[1:4]) for row in submitted} == {("project", "cpu", "COMPLETED")}
    assert_as_undisturbed(untrained, finished)
