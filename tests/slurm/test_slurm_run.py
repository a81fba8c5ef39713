"""From a fresh clone to Table 1 on a real Slurm: which jobs ran, what each got, and the results."""

import csv

import pytest
from slurm_clone import RUNS, TABLE1, jobs


def allocation(job: dict[str, str]) -> tuple[str, str, str, str]:
    """What a job got: partition, CPUs, memory (on all nodes), nodes."""
    parts = dict(part.split("=") for part in job["TRES"].split(","))
    return job["Partition"], parts["cpu"], parts["mem"], parts["node"]


def test_table1_has_all_runs(finished):
    with open(finished.folder / TABLE1, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["base", *RUNS]


def test_jobs_got_what_their_rules_ask_for(finished, cluster):
    descriptions = jobs(cluster)
    submitted = {number: descriptions[number] for number in finished.first_jobs}

    def rule_jobs(rule: str) -> list[dict[str, str]]:
        return [descriptions[number] for number in finished.jobs_of(rule)]

    assert len(submitted) == 16
    assert all(job["JobState"] == "COMPLETED" for job in submitted.values())
    assert all(job["JobName"].startswith("cpt_") for job in submitted.values())
    # Two shards share a job, side by side.
    (filtering,) = rule_jobs("filtering_filter_documents")
    assert allocation(filtering) == ("cpu", "2", "4000M", "1")
    (packing,) = rule_jobs("pack")
    assert allocation(packing) == ("cpu", "1", "4000M", "1")
    one, two, zero = (descriptions[finished.training_jobs(run)[0]] for run in RUNS)
    assert allocation(one) == allocation(zero) == ("cpu", "2", "16000M", "1")
    # One process on each of two nodes; the job asks for memory per node.
    assert allocation(two) == ("cpu", "2", "16000M", "2") and two["NodeList"] == "n[1-2]"
    assert len(rule_jobs("evaluate_tasks_1")) == len(rule_jobs("bits_per_byte")) == 4
    # The login node runs these itself.
    assert not any(rule_jobs(rule) for rule in ("download", "base_model", "plan_run", "scores", "table1"))


def test_processes_ran_on_both_nodes(finished):
    log = (finished.results / "logs" / "train" / "two-nodes.log").read_text()
    assert "process 0 of 2 runs on n1" in log and "process 1 of 2 runs on n2" in log


@pytest.mark.slurm_full
@pytest.mark.parametrize(
    ("option", "asked"), [("gpus", "TresPerJob"), ("gres", "TresPerNode"), ("gpus-per-node", "TresPerNode")]
)
def test_gpu_runs_get_gpus_on_each_node(finished, cluster, option, asked):
    """The jobs get what they ask for, and then report no GPU: these are links to /dev/null."""
    runs = ("gpu-one", "gpu-two")
    config = "runs={gpu-one: {tokens: 16384, gpus: 2}, gpu-two: {tokens: 16384, gpus: 4, nodes: 2}}"
    targets = [f"results/models/{run}" for run in runs]
    site = {"CPT_SLURM_RETRIES": "0", "CPT_SLURM_GPU_OPTION": option}
    process = finished.start(cluster, *targets, "--keep-going", "--config", config, **site)
    assert process.wait() != 0
    descriptions = jobs(cluster)
    one, two = (descriptions[finished.training_jobs(run)[-1]] for run in runs)
    assert allocation(one) == ("gpu", "16", "16000M", "1") and one[asked] == "gres:gpu:fake:2"
    assert allocation(two) == ("gpu", "32", "32000M", "2") and two["TresPerNode"] == "gres:gpu:fake:2"
    for run, processes in zip(runs, (2, 4), strict=True):
        log = (finished.results / "logs" / "train" / f"{run}.log").read_text()
        assert f"the run asks for {processes} GPU(s) and this machine offers 0" in log


def test_the_same_rule_without_slurm_gives_the_same_bytes(finished):
    run = "two-nodes"
    model = finished.results / "models" / run / "model.safetensors"
    on_slurm = model.read_bytes()
    finished.locally(f"results/models/{run}", "--forcerun", "train", "--quiet", "all")
    assert model.read_bytes() == on_slurm
