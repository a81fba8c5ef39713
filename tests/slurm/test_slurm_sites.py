"""What other sites ask for, on a real Slurm: queues, GPUs by other options, no --mem, limits, sessions."""

import re
from collections.abc import Iterator

import pytest
from cluster import Cluster, missing
from slurm_clone import TABLE1, Clone, jobs

SHARDS = [f"results/corpora/networkx/filtered/{shard:05d}.parquet" for shard in range(2)]
FORBIDS_MEMORY = """
function slurm_job_submit(job, partitions, user)
    if job.pn_min_memory ~= nil and job.pn_min_memory < slurm.NO_VAL64 then
        slurm.log_user("memory comes with the CPUs here, so --mem is refused")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user) return slurm.SUCCESS end
"""
STRICT = {"CPT_SLURM_MAX_MB": "0", "CPT_SLURM_EXTRA": "--exclusive --reservation=course"}
GPU_RUNS = "runs={gpu-one: {tokens: 16384, gpus: 2}, gpu-two: {tokens: 16384, gpus: 4, nodes: 2}}"


def test_started_in_a_session_of_srun(finished, cluster):
    """Jobs inherit nothing from the session's job, and Snakemake waits at a limit of submitted jobs."""
    printed = finished.printed()
    assert "Snakemake runs inside Slurm job" in printed
    assert "takes no more of your jobs now (QOSMaxSubmitJobPerUserLimit); trying every 2 s" in printed
    submitted = (finished.folder.parent / "bin" / "sbatch.environment").read_text()
    assert set(re.findall(r"^((?:SLURM|SRUN)_\w+)=", submitted, re.MULTILINE)) == {"SLURM_CONF"}
    described = jobs(cluster)
    assert {described[number]["Features"] for number in finished.first_jobs} == {"fast&new"}


def test_jobs_need_no_internet(finished, cluster):
    """They all ran in a network without a route to the outside."""
    assert (finished.folder / TABLE1).exists()
    assert cluster.run("ip", "-brief", "link", "show", "up").split()[0] == "lo"
    assert cluster.run("ip", "route") == "" and cluster.run("getent", "hosts", "pypi.org", check=False) == ""


@pytest.fixture(scope="module")
def strict_cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A cluster that refuses --mem; one of its nodes only runs jobs of the reservation `course`."""
    if reason := missing():
        pytest.skip(f"no Slurm: {reason}")
    cluster = Cluster(tmp_path_factory.mktemp("strict") / "c", settings={"JobSubmitPlugins": "lua"})
    (cluster.folder / "etc").mkdir(parents=True)
    (cluster.folder / "etc" / "job_submit.lua").write_text(FORBIDS_MEMORY)
    with cluster:
        options = ("ReservationName=course", "Users=root", "Nodes=n2", "StartTime=now", "Duration=60")
        cluster.run("scontrol", "create", "reservation", *options)
        yield cluster


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path / "clone")


def test_preflight_says_what_a_site_refuses_and_what_was_tried(clone, strict_cluster):
    """Also for jobs with GPUs on a site that wants other options than --gpus."""
    gpus = {"CPT_SLURM_GPU_OPTION": "gpus-per-node", "CPT_SLURM_GPU_CONSTRAINT": "fast&new"}
    good, printed = clone.preflight(
        strict_cluster, "--config", GPU_RUNS, **gpus, CPT_SLURM_GPU_EXTRA="--exclusive"
    )
    assert not good and "Slurm would refuse such a job: " in printed
    assert "memory comes with the CPUs here, so --mem is refused" in printed
    tried = "--partition=gpu '--constraint=fast&new' --exclusive --nodes=2 --cpus-per-task=16 --time=720"
    assert f"Tried: sbatch --test-only {tried} --mem=16000 --gpus-per-node=fake:2\n" in printed
    assert (
        "Tried: sbatch --test-only --partition=cpu --nodes=1 --cpus-per-task=2 --time=240 --mem=4000\n"
        in printed
    )


@pytest.mark.slurm_full
def test_a_strict_site(clone, strict_cluster):
    """Whole nodes of a reservation, and no --mem."""
    good, printed = clone.preflight(strict_cluster, **STRICT)
    # The run of two nodes fails, in a reservation of one.
    assert not good and "1 check(s) failed" in printed, printed
    assert "Slurm would refuse such a job: allocation failure: Requested node configuration is not" in printed
    clone.run(strict_cluster, SHARDS[0], CPT_SLURM_RETRIES="0", **STRICT)
    (number,) = clone.all_jobs()
    job = jobs(strict_cluster)[number]
    assert (job["JobState"], job["NodeList"], job["Reservation"]) == ("COMPLETED", "n2", "course")
    assert (job["NumCPUs"], job["NumTasks"], job["OverSubscribe"]) == ("32", "1", "NO")


@pytest.mark.slurm_full
def test_a_qos_that_allows_one_job_at_a_time(clone, tmp_path_factory):
    """With slurmdbd: two jobs wait for each other instead of failing."""
    if reason := missing(database=True):
        pytest.skip(f"no Slurm database: {reason}")
    settings = {"AccountingStorageEnforce": "associations,limits,qos"}
    with Cluster(tmp_path_factory.mktemp("limits") / "c", database=True, settings=settings) as cluster:
        cluster.run("sacctmgr", "-i", "add", "qos", "small", "MaxSubmitJobsPerUser=1")
        cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=small")
        good, printed = clone.preflight(cluster, CPT_SLURM_QOS="large")
        assert (
            not good and "would refuse such a job: allocation failure: Invalid qos specification" in printed
        )
        good, printed = clone.preflight(cluster, CPT_SLURM_QOS="small")
        assert good, printed
        assert "the lowest limit of an account or QOS is 1 at once, and CPT_SLURM_JOBS is 6" in printed
        limits = {"CPT_SLURM_QOS": "small", "CPT_SLURM_SHARDS_PER_JOB": "1", "CPT_SLURM_RETRIES": "0"}
        clone.run(cluster, *SHARDS, **limits)
        described = jobs(cluster)
    submitted = [described[number] for number in clone.all_jobs()]
    assert [(job["QOS"], job["JobState"]) for job in submitted] == [("small", "COMPLETED")] * len(SHARDS)
    assert "takes no more of your jobs now (QOSMaxSubmitJobPerUserLimit)" in clone.printed()


def start_another(cluster: Cluster) -> None:
    """Start a second cluster, `other`, of nodes n3 and n4, that uses the slurmdbd of the first."""
    folder = cluster.folder / "other"
    changed = {"ClusterName=test": "ClusterName=other\nSlurmctldPort=6827", "17001-17002": "17003-17004"}
    changed |= {"n[1-2]": "n[3-4]", "n1,n2": "n3,n4", "127.0.1.[1-2]": "127.0.1.[3-4]"}
    for part in ("etc", "state", "spool", "log", "pid"):
        (folder / part).mkdir(parents=True)
        changed[f"{cluster.folder}/{part}"] = f"{folder}/{part}"
    for name in ("slurm.conf", "gres.conf"):
        text = (cluster.folder / "etc" / name).read_text()
        for old, new in changed.items():
            text = text.replace(old, new)
        (folder / "etc" / name).write_text(text)
    with open(cluster.folder / "hosts", "a") as hosts:
        hosts.write("127.0.1.3 n3\n127.0.1.4 n4\n")
    cluster.run("sacctmgr", "-i", "add", "cluster", "other")
    cluster.run(
        "sacctmgr", "-i", "add", "account", "project", "Cluster=other", "Description=x", "Organization=x"
    )
    cluster.run("sacctmgr", "-i", "add", "user", "root", "Account=project", "Cluster=other")
    nodes = 'for node in n3 n4; do unshare --uts sh -c \'hostname "$0"; exec slurmd -N "$0"\' $node; done'
    start = f'mount --bind "$0" /etc/slurm; slurmctld -c; {nodes}'
    cluster.run("unshare", "--mount", "sh", "-c", start, str(folder / "etc"))


@pytest.mark.slurm_full
def test_one_of_several_clusters(clone, tmp_path_factory):
    if reason := missing(database=True):
        pytest.skip(f"no Slurm database: {reason}")
    with Cluster(tmp_path_factory.mktemp("several") / "c", database=True) as cluster:
        start_another(cluster)
        good, printed = clone.preflight(cluster, SLURM_CLUSTERS="other")
        assert good, printed
        clone.run(cluster, SHARDS[0], SLURM_CLUSTERS="other", CPT_SLURM_RETRIES="0")
        (number,) = clone.all_jobs()
        shown = cluster.run("scontrol", "--clusters=other", "show", "job", str(number))
        assert "JobState=COMPLETED" in shown and "BatchHost=n3" in shown
