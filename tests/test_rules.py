"""What the rules refuse before any job, and the jobs of a killed workflow that still run on Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"results", "tests"}


@pytest.fixture
def snakemake(tmp_path):
    """Run Snakemake on the smoke experiment in an empty folder; returns what it printed. It must fail, or
    only plan."""
    for path in ROOT.glob("[!.]*"):
        if path.name not in LEFT_OUT:
            (tmp_path / path.name).symlink_to(path)

    def run(*arguments: str, fails: bool = True, **environment: str) -> str:
        command = [sys.executable, "-m", "snakemake", *arguments[:1], "--cores", "1", "--quiet", "rules"]
        command += ["--configfile", "experiments/smoke.yaml", *arguments[1:]]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            env=os.environ | {"COLUMNS": "200"} | environment,
        )
        assert (done.returncode != 0) == fails and not (tmp_path / "results").exists(), done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ["corpora={own: {source: local, files: nowhere/*.md}}", "general=own"],
            "corpora.own.files: no file matches nowhere/*.md (relative to {folder}); fix the pattern or",
        ),
        (
            ["evaluate={include_path: nowhere, tasks: {capitals: {metric: acc, label: Capitals}}}"],
            "evaluate.include_path: no files in nowhere (relative to {folder}); name the folder of the YAML "
            "files that define capitals",
        ),
        (
            ["base={expected_scores: someone/else}"],
            "base.expected_scores: expected_scores.csv has no someone/else; it has ",
        ),
        (["train={learnin_rate: 1}"], "train.learnin_rate: unknown key; did you mean 'learning_rate'?"),
    ],
)
def test_a_config_that_no_job_can_be_planned_for(snakemake, tmp_path, config, message):
    assert message.format(folder=tmp_path) in snakemake("--dry-run", "--config", *config)


@pytest.mark.parametrize("name", ["MAX_MINUTES", "TRAIN_MINUTES", "POLL_SECONDS", "WARNING_SECONDS"])
def test_a_sites_value_that_is_no_number(snakemake, name):
    printed = snakemake("--dry-run", **{f"CPT_SLURM_{name}": "12h"})
    assert f"CPT_SLURM_{name}: expected a whole number, but it is '12h'; mend or unset it" in printed


def test_jobs_of_a_killed_workflow_that_still_run(snakemake, tmp_path):
    (tmp_path / "bin").mkdir()
    jobs = [f"71\tRUNNING\tcpt_a\trule_train\t{tmp_path}", "72\tRUNNING\tcpt_b\trule_train\t/elsewhere"]
    jobs += [f"73\tPENDING\tcpt_c\trule_pack\t{tmp_path}", f"74\tRUNNING\tmine\t(null)\t{tmp_path}"]
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\ncat <<'END'\n{}\nEND\n".format("\n".join(jobs)))
    (tmp_path / "bin" / "squeue").chmod(0o755)
    printed = snakemake("results/smoke/config.yaml", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "Slurm jobs of an earlier workflow in this folder are still queued or running (71, 73)" in printed
    assert "`make resume` waits for them and goes on" in printed


def test_a_squeue_that_does_not_answer(snakemake, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    told = "squeue isn't found, fails or doesn't answer, so jobs that still run in this folder can't be seen"
    assert told in snakemake("results/smoke/config.yaml", "--profile", "slurm", PATH=path)
    command = [sys.executable, ROOT / "scripts" / "resume.py"]
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {told}")


def test_preflight_asks_for_all_that_is_read_from_the_hub(snakemake):
    commit = "0" * 40
    config = [f"base={{source: hub, repo: a/base, revision: {commit}}}"]
    config += [f"reference_models={{other: {{source: hub, repo: a/reference, revision: {commit}}}}}"]
    config += [f"evaluate={{benchmarks: {{source: hub, revisions: {{a/benchmark: {commit}}}}}}}"]
    nothing = "hidden_size layers heads context_length seed"
    config[0] = config[0].replace("}", "".join(f", {key}: null" for key in nothing.split()) + "}")
    config[2] = config[2].replace("revisions", "package: null, version: null, sha256: null, revisions")
    printed = snakemake(
        "preflight", "--dry-run", "--printshellcmds", "--quiet", "progress", "--config", *config, fails=False
    )
    for kind, name, key in (
        ("model", "base", "base"),
        ("model", "reference", "reference_models.other"),
        ("dataset", "benchmark", "evaluate.benchmarks.revisions"),
    ):
        assert f'["{kind}", "a/{name}", "{commit}", "{key}"]' in printed


def test_the_base_model_alone_has_no_training_loss_to_draw(snakemake):
    printed = snakemake("all", "--dry-run", "--config", "runs={cpt-16K: null, cpt-40K: null}", fails=False)
    assert "figure2" in printed and "figure1" not in printed


def test_a_workflow_that_lives_needs_no_resuming(tmp_path):
    (tmp_path / "snakemake").write_text("#!/bin/sh\nread line\n")
    (tmp_path / "snakemake").chmod(0o755)
    with subprocess.Popen([tmp_path / "snakemake"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        command = [sys.executable, ROOT / "scripts" / "resume.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    told = f"error: Snakemake still works here (process {process.pid}), so nothing has to be resumed; let it"
    assert done.stderr.startswith(told)
