"""The whole DAG: what it makes, what a change reruns, and how it survives a kill."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from project_copy import SMOKE
from transformers import AutoModelForCausalLM, AutoTokenizer

RESULTS = "results/smoke"
# Everything up to the packed sequences: no change of training may rerun these.
CORPUS_RULES = {
    "download", "filter_documents", "deduplicate", "decontaminate", "tokenize_documents", "held_out_overlap",
    "held_out", "held_out_tokens", "pack", "drop_report", "corpus_statistics", "base_model", "fetch_package",
    "fetch_benchmarks",
}  # fmt: skip


def results(project) -> Path:
    return project.folder / RESULTS


def test_papers_experiment_is_planned_without_network_or_data(project):
    jobs = project.planned(config=())
    assert jobs["train"] == 2 and jobs["download"] == 2 and jobs["check_base"] == 1
    assert jobs["evaluate_tasks_1"] == jobs["evaluate_tasks_2"] == 3
    assert not {"minhash", "near_duplicates"} & set(jobs)  # planned only where configured
    printed = project.snakemake("results/table1.csv", "--profile", "slurm", "-n", "--quiet", "rules")
    table = printed.partition("What the jobs would ask for")[2].strip().splitlines()[1:]
    rows = {rule: cells for rule, *cells in map(str.split, table)}
    # jobs, nodes, GPUs, CPUs, GB, hours, GPU hours (6 and 3 GPUs), CPU hours, GB of disk
    assert rows["train"] == ["2", "1", "6", "48", "48", "12", "108", "864", "0"]
    assert rows["download"] == ["2", "login", "4.32"] and rows["together"] == ["30", "162", "934", "11.04"]


def test_near_duplicates_are_planned_where_configured(project):
    near = "deduplicate={near: {ngram: 5, bands: 14, rows: 8, seed: 0}}"
    jobs = project.planned("--config", near)
    assert (jobs["minhash"], jobs["near_duplicates"], jobs["decontaminate"]) == (3, 1, 3)
    assert not {"download", "filter_documents", "deduplicate"} & set(jobs) and jobs["corpus_statistics"] == 1


def test_table1_has_the_papers_columns_and_all_runs(project):
    with open(results(project) / "table1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["base", "cpt-16K", "cpt-40K"]
    tasks = ["mmlu", "arc_challenge", "arc_easy", "winogrande", "hellaswag", "boolq", "piqa"]
    assert list(rows[0])[:10] == ["run", "tokens", *tasks, "average"]
    for row in rows:
        assert float(row["average"]) == pytest.approx(sum(float(row[t]) for t in tasks) / 7, abs=1e-4)
    assert (results(project) / "table1.tex").read_text().count("\\toprule") == 1
    assert "H.Swag" in (results(project) / "table1.md").read_text()


def test_figures_and_paper_exist(project):
    for figure in ("figure1", "figure2", "figure3", "figure6", "token_quality"):
        for kind, magic in (("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")):
            assert (results(project) / "figures" / f"{figure}.{kind}").read_bytes().startswith(magic)
    assert (results(project) / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_merged_config_is_stored_with_the_results(project):
    stored = yaml.safe_load((results(project) / "config.yaml").read_text())
    assert stored["name"] == "smoke" and stored["train"]["weight_decay"] == 0.005
    assert stored["runs"]["cpt-40K"]["train"] == {
        "engine": "deepspeed",
        "offload": ["optimizer", "parameters"],
    }


def test_both_engines_trained_on_two_processes_and_learned(project):
    for run, engine in (("cpt-16K", "ddp"), ("cpt-40K", "deepspeed")):
        summary = json.loads((results(project) / "runs" / run / "run.json").read_text())
        assert (summary["engine"], summary["processes"]) == (engine, 2)
        assert summary["provenance"]["code_digest"] not in ("", "unknown")
        with open(results(project) / "runs" / run / "metrics.csv", newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        assert len(losses) == summary["steps"] and losses[-1] < losses[0] - 0.3


def test_smaller_budget_is_a_prefix_of_the_larger(project):
    plans = [
        json.loads((results(project) / "runs" / run / "plan.json").read_text())
        for run in ("cpt-16K", "cpt-40K")
    ]
    first, second = (plan["stages"][0] for plan in plans)
    assert first["sequences_sha256"] == second["sequences_sha256"]
    assert first["first_sequence"] == second["first_sequence"] == 0
    assert plans[0]["sequences"] < plans[1]["sequences"]
    first_steps = []
    for run in ("cpt-16K", "cpt-40K"):
        with open(results(project) / "runs" / run / "metrics.csv", newline="") as file:
            first_steps.append(float(next(csv.DictReader(file))["loss"]))
    assert first_steps[0] == pytest.approx(first_steps[1], abs=1e-5)  # the same first batch, both engines


def test_held_out_loss_falls(project):
    bits = [
        json.loads((results(project) / "evaluations" / run / "bits_per_byte.networkx.json").read_text())
        for run in ("base", "cpt-16K", "cpt-40K")
    ]
    assert bits[0]["bits_per_byte"] > bits[1]["bits_per_byte"] > bits[2]["bits_per_byte"]


def test_held_out_loss_falls_along_training(project):
    for run in ("cpt-16K", "cpt-40K"):
        with open(results(project) / "runs" / run / "held_out.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        plan = json.loads((results(project) / "runs" / run / "plan.json").read_text())
        steps = [int(row["step"]) for row in rows]
        assert set(steps) >= {0, 1, 2, plan["steps"]} and len(steps) == 2 * len(set(steps))
        domain = [float(row["bits_per_byte"]) for row in rows if row["corpus"] == "networkx"]
        assert domain[-1] < domain[0] - 0.3


def test_runs_that_continue_or_switch_are_planned(project):
    mixtures = "mixtures={other: {networkx: 0.5, pydantic: 0.5}}"
    more = "cpt-9K: {tokens: 9216, cpus: 2, start_from: cpt-16K, continues: true, mixture: other}"
    late = "late: {tokens: 9216, cpus: 2, switch: {mixture: other, at: 0.5}}"
    jobs = project.planned("--config", mixtures, f"runs={{{more}, {late}}}")
    assert jobs["pack"] == 1 and jobs["plan_run"] == 2
    assert jobs["train"] == 3  # cpt-16K once more, to keep its optimizer


def test_selecting_runs_wait_for_their_reference(project):
    selection = "selection: {reference: cpt-40K, share: 0.6}"
    runs = [f"{name}: {{tokens: 9216, cpus: 2, train: {{{selection}}}}}" for name in ("one", "two")]
    jobs = project.planned("--config", f"runs={{{', '.join(runs)}}}")
    assert not CORPUS_RULES & set(jobs)
    assert (jobs["reference_losses"], jobs["plan_run"], jobs["train"]) == (1, 2, 2)


def test_trained_model_loads_with_transformers(project):
    folder = results(project) / "models" / "cpt-40K"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size >= len(tokenizer) - 1
    assert tokenizer("graph")["input_ids"]


def test_numbers_of_the_finished_experiment_are_computed_again(project):
    """Runs before the tests that interrupt a run, which leave the speed of its last session only."""
    printed = project.make("verify", f"RESULTS={RESULTS}")
    assert re.search(
        r"^- \[x\] [\d,]+ numbers of 6 tables were computed again from the samples: 0 differ", printed, re.M
    )
    page = (results(project) / "verification.md").read_text()
    assert page.rstrip() in printed and "no golden values for this experiment" in page


def test_every_job_left_a_log_and_timings(project):
    logs = {path.parts[-2] for path in (results(project) / "logs").rglob("*.log")}
    assert {"networkx", "cpt-16K", "base"} <= logs
    project.snakemake(f"{RESULTS}/timings.csv", "--quiet", "all", *SMOKE)
    with open(results(project) / "timings.csv", newline="") as file:
        rules = {row["rule"]: int(row["jobs"]) for row in csv.DictReader(file)}
    assert rules["evaluate_tasks"] == 6 and rules["train"] == 2


# --------------------------------------------------------------------------------------- being killed
def test_killed_in_mid_training_and_started_again_gives_the_same_model(project):
    """With DeepSpeed on two processes, which reads and writes most; tests/train kills the other engines."""
    run = "cpt-40K"
    target = f"{RESULTS}/models/{run}"
    before = (project.folder / target / "model.safetensors").read_bytes()
    checkpoint = results(project) / "checkpoints" / run / "checkpoints" / "step-00000004"
    force = (target, "--forcerun", "train", "--nolock", "--quiet", "all", *SMOKE)
    project.kill_when(checkpoint, *force)
    assert not (project.folder / target / "model.safetensors").exists()
    assert not (results(project) / "runs" / run / "run.json").exists()
    project.snakemake(target, "--rerun-incomplete", "--nolock", "--quiet", "all", *SMOKE)
    assert (project.folder / target / "model.safetensors").read_bytes() == before
    assert "continuing after step" in (results(project) / "logs" / "train" / f"{run}.log").read_text()
    assert json.loads((results(project) / "runs" / run / "run.json").read_text())["resumed_after_step"] >= 4
    assert not checkpoint.parent.exists()
    project.snakemake("--touch", "--forceall", "--quiet", "all", *SMOKE)  # same bytes: no reruns are due


def test_a_failed_job_leaves_what_it_made_and_no_part_of_it_is_removed(project):
    """A kill could cut the removal short, and half a model's folder would pass for the model."""
    target = f"{RESULTS}/models/half"
    half = "runs={half: {merge: {base: 0.5, cpt-16K: 0.5}}}"
    with project.edit("scripts/merge.py", "run_stage(merge)", "run_stage(merge)\n    raise SystemExit(3)"):
        printed = project.snakemake(target, *SMOKE, "--config", half, check=False)
    assert "FAILED: merge: half" in printed and "Removing output" not in printed
    names = {path.name for path in (project.folder / target).iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json"}
    shutil.rmtree(project.folder / target)


# ------------------------------------------------------------------------------------------ bad input
def test_budget_over_the_corpus_stops_before_training(project):
    runs = "runs={huge: {tokens: 1B, cpus: 2}}"
    target = f"{RESULTS}/models/huge"
    printed = project.snakemake(target, "--quiet", "all", *SMOKE, "--config", runs, check=False)
    assert "runs.huge.tokens: 1,000,000,000 tokens are" in printed and "lower the budget" in printed
    assert not (results(project) / "runs" / "huge").exists() or not list(
        (results(project) / "runs" / "huge").iterdir()
    )
    assert not (results(project) / "checkpoints" / "huge").exists()
