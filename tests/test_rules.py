"""What the rules refuse before any job, and the jobs of a killed workflow that still run on Slurm."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from cpt.planning import check_groups
from cpt.targets import unknown_target

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"results", "tests"}


# Counts the calls of functions: of everything, or of planning alone.
COUNT = """
import cProfile, sys
from snakemake.cli import main
from snakemake.workflow import Workflow

profile, plan, what = cProfile.Profile(), Workflow.execute, sys.argv.pop(1)
if what == "plan":
    Workflow.execute = lambda *arguments, **named: profile.runcall(plan, *arguments, **named)
try:
    profile.runcall(main) if what == "all" else main()
except SystemExit as end:
    assert not end.code
print("calls:", sum(entry.callcount for entry in profile.getstats()), flush=True)
"""


def linked_clone(folder: Path) -> Path:
    """Link the project's files into an empty folder."""
    for path in ROOT.glob("[!.]*"):
        if path.name not in LEFT_OUT:
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def clone(tmp_path):
    return linked_clone(tmp_path)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How often functions are called in a dry run of the smoke experiment with this number of shards."""
    folder = linked_clone(tmp_path_factory.mktemp("clone"))

    def count(what: str, shards: int, *options: str) -> int:
        command = [sys.executable, "-c", COUNT, what, *options, "--dry-run", "--quiet", "rules"]
        command += ["--configfile", "experiments/smoke.yaml"]
        command += ["--config", f"corpora={{networkx: {{shards: {shards}}}}}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.rpartition("calls: ")[2])

    count("plan", 2)  # digests of code are remembered from now on
    return count


@pytest.fixture
def snakemake(clone, tmp_path):
    """Run Snakemake on the smoke experiment in an empty folder; returns what it printed. It must fail, or
    only plan."""

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
            "files that define own tasks, or set it to null",
        ),
        (
            ["base={expected_scores: someone/else}"],
            "base.expected_scores: expected_scores.csv has no someone/else; it has ",
        ),
        (["train={learnin_rate: 1}"], "train.learnin_rate: unknown key; did you mean 'learning_rate'?"),
        (
            [
                "base={source: local, path: opt, hidden_size: null, layers: null, heads: null, "
                "context_length: null, seed: null}",
                "release={gguf: [q8_0]}",
            ],
            "release.gguf: the model_type 'opt' of config.json can't be written as GGUF here, only llama, ",
        ),
    ],
)
def test_a_config_that_no_job_can_be_planned_for(snakemake, tmp_path, config, message):
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "config.json").write_text('{"model_type": "opt"}')
    assert message.format(folder=tmp_path) in snakemake("--dry-run", "--config", *config)


def test_an_upload_without_a_repository_is_refused_at_the_start(snakemake):
    assert "release.repo: not set; name the repository that push uploads to" in snakemake("push", "--dry-run")
    snakemake("push", "--dry-run", "--config", 'release={repo: "me/{run}"}', fails=False)


def test_advice_without_a_grid_or_a_run_of_it_is_refused_at_the_start(snakemake):
    assert "advise: not set; say what to weigh, such as" in snakemake("advise", "--dry-run")
    grid = "advise={tokens: [163840], shares: [0.25, 0.5], learning_rates: [0.001, 0.003], replay: [0, 0.1]}"
    assert "predictions: no run of this config has" in snakemake("predictions", "--dry-run", "--config", grid)
    # A plan that is registered later rests on the proxies, so they don't wait for it.
    plan = "preregister={question: Which rate, prediction: The lower one.}"
    printed = snakemake("advise", "--dry-run", "--config", grid, plan, fails=False)
    assert "train_proxy" in printed and not re.search("^preregister +[0-9]", printed, re.MULTILINE)


def test_a_release_that_is_not_named_or_not_there_is_refused(snakemake):
    assert "release.name: not set; name the release" in snakemake("freeze", "--dry-run")
    assert "release.compare_to: not set; name a release that" in snakemake("compare", "--dry-run")
    printed = snakemake("all", "--dry-run", "--config", "release={compare_to: first}")
    assert "release.compare_to: no results/smoke/releases/first/release.json; name a release" in printed


def test_classifiers_are_only_planned_where_a_corpus_is_filtered_by_them(snakemake):
    planned = []
    for where in ("language: {in: [en]}", "similarity: {minimum: 0.5}", "edu_score: {minimum: 3}"):
        corpus = f"{{source: local, files: README.md, where: {{{where}}}}}"
        target = "results/smoke/corpora/own/filtered/00000.parquet"
        printed = snakemake(target, "--dry-run", "--config", f"corpora={{own: {corpus}}}", fails=False)
        planned.append(dict(re.findall(r"^(\w+) +(\d+)$", printed, re.MULTILINE)))
    counts = {"download": "1", "filter_documents": "1", "total": "2"}
    assert planned[0] == counts
    # The domain has two shards.
    assert planned[1] == counts | {"download": "3", "similarity_model": "1", "total": "5"}
    assert planned[2] == counts | {"import_classifier": "1", "edu_scores": "1", "total": "4"}


SLURM = ("--profile", "slurm")


# The profile reads JOBS and POLL_SECONDS too; all names are checked in one place.
@pytest.mark.parametrize(
    ("name", "profile"), [("MAX_MB", ()), ("JOBS", SLURM), ("POLL_SECONDS", SLURM), ("RETRIES", SLURM)]
)
def test_a_sites_value_that_is_no_number(snakemake, name, profile):
    printed = snakemake("--dry-run", *profile, **{f"CPT_SLURM_{name}": "12h"})
    assert f"CPT_SLURM_{name}: expected a whole number, but it is '12h'; correct or unset it" in printed
    assert "usage:" not in printed


def test_a_sites_variable_with_a_wrong_name(snakemake):
    printed = snakemake("--dry-run", "--profile", "slurm", CPT_SLURM_GPU_MODELL="a100", CPT_SLURM_JOBS="")
    assert "CPT_SLURM_GPU_MODELL: nothing reads this variable; did you mean 'CPT_SLURM_GPU_MODEL'?" in printed


def test_the_page_of_a_site_has_every_variable():
    rules = (ROOT / "rules" / "slurm.smk").read_text()
    names = {
        name
        for line in re.findall(r"^SITE_\w+ = \((.*?)\)$", rules, re.M | re.S)
        for name in re.findall(r'"(\w+)"', line)
    }
    page = (ROOT / "docs" / "cluster-sites.md").read_text()
    assert len(names) == 16 and names == {
        name.removeprefix("CPT_SLURM_") for name in re.findall(r"^\| `(\w+)`", page, re.M)
    }


def test_names_of_a_site_that_mean_something_to_python(snakemake):
    site = {"CPT_SLURM_PARTITION": "all", "CPT_SLURM_QOS": "max", "CPT_SLURM_EXTRA": "--exclusive"}
    target = "results/smoke/table1.csv"
    printed = snakemake(target, "--dry-run", "--profile", "slurm", fails=False, SLURM_JOB_ID="7", **site)
    assert "Snakemake runs inside Slurm job 7, and ends with it" in printed


def test_an_option_for_gpus_that_slurm_does_not_have(snakemake):
    printed = snakemake("--dry-run", CPT_SLURM_GPU_OPTION="gpu")
    assert "CPT_SLURM_GPU_OPTION: expected one of gpus, gpus-per-node, gres, none, but it is 'gpu'" in printed


def test_jobs_of_a_killed_workflow_that_still_run(snakemake, tmp_path):
    (tmp_path / "bin").mkdir()
    jobs = [f"71\tRUNNING\tcpt_a\trule_train\t{tmp_path}", "72\tRUNNING\tcpt_b\trule_train\t/elsewhere"]
    jobs += [f"73\tPENDING\tcpt_c\trule_pack\t{tmp_path}", f"74\tRUNNING\tmine\t(null)\t{tmp_path}"]
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\ncat <<'END'\n{}\nEND\n".format("\n".join(jobs)))
    (tmp_path / "bin" / "squeue").chmod(0o755)
    printed = snakemake("results/smoke/config.yaml", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "Slurm jobs of an earlier workflow in this folder are still queued or running (71, 73)" in printed
    assert "`make resume` waits for them and resumes. If that workflow still works, start this" in printed


def test_a_squeue_that_does_not_answer(snakemake, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    error = "squeue isn't found, fails or doesn't answer, so jobs that still run in this folder can't be seen"
    assert error in snakemake("results/smoke/config.yaml", "--profile", "slurm", PATH=path)
    command = [sys.executable, ROOT / "scripts" / "resume.py"]
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {error}")


def test_preflight_asks_for_all_that_is_read_from_the_hub(snakemake):
    commit = "0" * 40
    config = [f"base={{source: hub, repo: a/base, revision: {commit}}}"]
    config += [f"reference_models={{other: {{source: hub, repo: a/reference, revision: {commit}}}}}"]
    config += [f"evaluate={{benchmarks: {{source: hub, revisions: {{a/benchmark: {commit}}}}}"]
    config[2] += f", revisions: {{a/further: {commit}}}}}"
    nothing = "hidden_size layers heads context_length seed"
    config[0] = config[0].replace("}", "".join(f", {key}: null" for key in nothing.split()) + "}")
    config[2] = config[2].replace("hub, ", "hub, package: null, version: null, sha256: null, ")
    printed = snakemake(
        "preflight", "--dry-run", "--printshellcmds", "--quiet", "progress", "--config", *config, fails=False
    )
    for kind, name, key in (
        ("model", "base", "base"),
        ("model", "reference", "reference_models.other"),
        ("dataset", "benchmark", "evaluate.benchmarks.revisions"),
        ("dataset", "further", "evaluate.revisions"),
    ):
        assert f'["{kind}", "a/{name}", "{commit}", "{key}"]' in printed
    assert "--no-cluster" in printed  # with the profile, tests/slurm


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ("results/smoke/models/cpt-16k", (), "did you mean results/smoke/models/cpt-16K?"),
        ("all", ("--until", "trian"), "trian: no such target; did you mean train?"),
    ],
)
def test_a_target_that_nothing_makes(snakemake, asked, options, message):
    assert message in snakemake(asked, "--dry-run", *options)


TABLE1 = "results/smoke/table1.csv"
IN_RESULTS = "(results of this experiment are in results/smoke, and --configfile names another one)"


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ("results/smoke/tabel1.csv", f"did you mean {TABLE1}?"),
        (f"{Path.cwd()}/{TABLE1}", f"did you mean {TABLE1}?"),
        ("reprot", "did you mean report?"),
        ("results/smoke/", "docs/results.md lists all files, and --list all names"),
        ("results/demo/table1.csv", f"did you mean {TABLE1}? {IN_RESULTS}"),
    ],
)
def test_the_nearest_target_is_named(asked, remedy):
    message = unknown_target(asked, ["report", TABLE1, "results/smoke/models/cpt-16K"], "results/smoke")
    assert message == f"{asked}: no such target; {remedy}"


def test_a_time_limit_of_the_hub_that_is_no_number(snakemake):
    printed = snakemake("--dry-run", HF_HUB_DOWNLOAD_TIMEOUT="30s")
    assert "HF_HUB_DOWNLOAD_TIMEOUT: expected whole seconds, but it is '30s'; correct or unset it" in printed


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
    error = f"error: Snakemake still works here (process {process.pid}), so nothing has to be resumed; let it"
    assert done.stderr.startswith(error)


def test_planning_for_slurm_grows_with_the_shards_not_with_their_square(calls):
    tables = "results/smoke/corpora/statistics.csv", "results/smoke/corpora/drops.md"
    few, some, many = (calls("plan", shards, *tables, "--profile", "slurm") for shards in (8, 72, 136))
    assert many - some < 1.04 * (some - few)  # 1.09 and 1.6 times as many when parts grew with the square


def test_the_benchmark_of_planning_has_a_row_for_each_number_of_shards(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    planning = import_module("planning")
    printed = "job count\ntotal     9\n\njob count\ntotal     1234\n"
    commands: list[list[str]] = []

    def measured(options: list[str]) -> object:
        commands.append(options)
        return planning.Measured(len(commands), 300.4, printed)

    monkeypatch.setattr(planning, "run_snakemake", measured)
    planning.planning(tmp_path / "table.md", [14, 2_000])
    rows = (tmp_path / "table.md").read_text().splitlines()
    assert rows[2:] == ["| 14 | 1,234 | 1.0 | 300 | 2.0 | 3.0 |", "| 2,000 | 1,234 | 4.0 | 300 | 5.0 | 6.0 |"]
    assert [options[-2:] == ["--profile", "slurm"] for options in commands[:3]] == [True, False, False]
    assert "corpora={fineweb_edu: {shards: 2000}}" in commands[5] and "remote" in commands[5]


def test_a_jobs_start_does_not_depend_on_the_number_of_shards(calls):
    job = "--target-jobs=filter_documents:corpus=networkx,shard=00001", "--allowed-rules=filter_documents"
    few, many = (calls("all", shards, *job, "--force", "--mode=remote") for shards in (2, 2_000))
    assert abs(many - few) < 0.01 * few


class Node:
    """A job, its rule, or a group of jobs, as far as the check of groups looks at them."""

    def __init__(self, name: str):
        self.rule, self.name, self.groupid = self, name, name


@pytest.mark.parametrize(
    ("waits", "groups", "circle"),
    [
        ("b>a c>b d>a", {"x": "ab", "y": "cd"}, None),
        ("b>a c>b", {"x": "ac"}, {"x", "b"}),
        ("b>a d>c", {"x": "ad", "y": "bc"}, {"x", "y"}),  # they wait for one another
    ],
)
def test_groups_that_wait_for_themselves_are_refused(waits, groups, circle):
    jobs = {name: Node(name) for name in "abcd"}
    earlier = {job: [jobs[pair[2]] for pair in waits.split() if pair[0] == job.name] for job in jobs.values()}
    grouped = {jobs[name]: group for group in map(Node, groups) for name in groups[group.name]}
    dag = SimpleNamespace(jobs=list(jobs.values()), _dependencies=earlier, _group=grouped)
    if circle is None:
        check_groups(dag)
        return
    with pytest.raises(WorkflowError, match="Groups of jobs wait for themselves") as error:
        check_groups(dag)
    assert set(str(error.value).partition("(")[2].partition(")")[0].split(" <- ")) == circle
