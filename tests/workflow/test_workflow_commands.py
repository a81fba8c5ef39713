"""These tests type every command that README and docs show, in a copy of the project.

A command that takes hours or the demo's model runs on the smoke experiment, or as a dry run only;
`make test-experiments` runs the demo itself. tests/slurm types the cluster's commands, on a real Slurm.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from project_copy import Project
from tests.test_documents import COMMANDS, ROOT
from upload_server import UploadServer

# The smoke experiment replaces the demo, and its run the paper's.
ON_SMOKE = {
    "experiments/demo.yaml": "experiments/smoke.yaml",
    "results/demo/released/cpt-41K": "results/smoke/released/cpt-40K",
    "results/demo": "results/smoke",
    "results/checkpoints/cpt-400M": "results/smoke/runs/cpt-16K",
    "cpt-400M": "cpt-16K",
    "400000000": "16384",
}
PLANNED = {  # command: some of the jobs that its dry run lists
    "snakemake --configfile experiments/demo.yaml --config 'runs={cpt-8K: {tokens: 8192, cpus: 2}}' -n": {
        "train": 3,
        "download": 3,
    },
    "snakemake --configfile experiments/schedules.yaml -n -- results/schedules/figures/schedules.pdf": {
        "plan_run": 4,
        "schedules": 1,
    },
    "snakemake --configfile experiments/own.yaml -n": {"filter_documents": 2, "document_list": 1, "train": 1},
    "snakemake chat --cores 2 --configfile experiments/own.yaml": {"chat_answers": 2, "train": 1},
    "snakemake --configfile experiments/openstax.yaml --cores 2": {"train": 4, "evaluate_tasks_1": 5},
    "snakemake --configfile experiments/robustness.yaml --cores 2 "
    "results/robustness/figures/robustness.svg": {"preregister": 1, "train": 9, "robustness": 1},
    "snakemake --cores 2 --configfile experiments/demo.yaml --config 'evaluate={exam: {items: 300}}'": {
        "make_exam": 1
    },
    "snakemake freeze --cores 2 --configfile experiments/demo.yaml --config 'release={name: 2026-11}'": {
        "freeze": 1
    },
    "snakemake chat --cores 2 --configfile experiments/demo.yaml": {"chat_answers": 3, "train": 2},
    "snakemake chat_scores --cores 2 --configfile experiments/demo.yaml": {"chat_instructions": 3},
}
PLAN = "snakemake results/replay/plan.md --cores 1 --configfile experiments/replay.yaml"
OUTPUTS = {  # command: the files that it writes, for the smoke experiment
    "snakemake --configfile experiments/demo.yaml --cores 2 results/demo/provenance.json": (
        "results/smoke/provenance.json",
        "results/smoke/ro-crate-metadata.json",
    ),
    "python scripts/figure1.py --metrics results/checkpoints/cpt-400M/metrics.csv "
    """--runs '{"cpt-400M": 400000000}' --figure live.png""": ("live.png",),
    "python scripts/chat_answers.py --model results/demo/models/base --prompts experiments/prompts.txt "
    "--answers answers.jsonl --kept answers.kept --max-new-tokens 200 --batch-size 16 --precision float32 "
    "--device cpu --threads 2": ("answers.jsonl",),
    "python scripts/tensorboard_log.py --results results/demo": (
        "results/smoke/tensorboard/cpt-16K/events.out.tfevents.*",
        "results/smoke/tensorboard/cpt-40K/events.out.tfevents.*",
    ),
}
FIRST_RUN = ("tests/train/test_train_gpu_first_run.py", '[("first", 5, 480), ("second", 5, 270)]')
ON_DEMO = "tests/workflow/test_workflow_commands.py"
ELSEWHERE = {  # command: the file that types it or a similar one, and the line
    "make demo": ("tests/workflow/conftest.py", 'project.make("demo", '),
    "make verify RESULTS=results/demo": (
        "tests/workflow/test_workflow.py",
        'project.make("verify", f"RESULTS={RESULTS}")',
    ),
    "make environment TORCH_INDEX=https://download.pytorch.org/whl/cpu": (
        "tests/test_environment.py",
        'environment(f"TORCH_INDEX={others.url}")',
    ),
    "snakemake --configfile experiments/own.yaml --cores 2": (
        "tests/workflow/test_workflow_own.py",
        "project.snakemake(*targets, *OVERLAYS)",
    ),
    "snakemake results/own/plan.md --cores 1 --configfile experiments/own.yaml": (
        ON_DEMO,
        "typed(project, PLAN)",
    ),
    "snakemake freeze --cores 2 --configfile experiments/own.yaml --config 'release={name: 2026-11}'": (
        ON_DEMO,
        '"snakemake freeze --cores 2 --configfile experiments/demo.yaml',
    ),
    "snakemake report --cores 1 --configfile experiments/own.yaml": (
        "tests/workflow/test_workflow_report.py",
        'project.snakemake("report", *SMOKE)',
    ),
    "snakemake push --cores 1 --configfile experiments/own.yaml --config "
    """'release={repo: "OWNER/NAME-{run}"}'""": (ON_DEMO, "typed(clone, on_smoke(UPLOAD), "),
    "snakemake report --cores 1 --configfile experiments/demo.yaml": (
        "tests/workflow/test_workflow_report.py",
        'project.snakemake("report", *SMOKE)',
    ),
    "OUT=first-run benchmarks/gpu_first_run.sh first": FIRST_RUN,
    "OUT=first-run benchmarks/gpu_first_run.sh second": FIRST_RUN,
    "snakemake --profile slurm preflight": (
        "tests/slurm/slurm_clone.py",
        'self.command(cluster, "preflight", "--quiet", "all", *arguments)',
    ),
    "snakemake --profile slurm -n results/table1.csv": (
        "tests/workflow/test_workflow.py",
        'project.snakemake("results/table1.csv", "--profile", "slurm", "-n", "--quiet", "rules")',
    ),
    "snakemake --profile slurm results/table1.csv": (
        "tests/slurm/conftest.py",
        "clone.run(cluster, TABLE1, ",
    ),
}
TEST = "make test"
REDRAW = "snakemake figure2 --forcerun figure2 --cores 1 --configfile experiments/demo.yaml"
UPLOAD = "snakemake push --cores 1 --configfile experiments/demo.yaml --config "
UPLOAD += """'release={repo: "OWNER/NAME-{run}"}'"""


def typed(project: Project, command: str, *more: str) -> str:
    """Type a command in the project's folder; returns what it printed."""
    program, *words = shlex.split(command)
    return project.run([f".venv/bin/{program}", *words, *more])


def on_smoke(command: str) -> str:
    """The same command for the finished smoke experiment."""
    for old, new in ON_SMOKE.items():
        command = command.replace(old, new)
    return command


def test_each_command_is_typed_by_a_test():
    covered = {*PLANNED, PLAN, *OUTPUTS, *ELSEWHERE, TEST, REDRAW, UPLOAD}
    assert {command.removeprefix(".venv/bin/") for command in COMMANDS} == covered
    for command, (file, call) in ELSEWHERE.items():
        assert call in (ROOT / file).read_text(), command


@pytest.fixture(scope="module")
def documents(project) -> Path:
    """The files that the overlays own.yaml and openstax.yaml read."""
    for name in ("data/own/a.md", "data/own/b/c.md", "data/openstax/a.parquet"):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text("Some words.\n")
    return project.folder / "data"


@pytest.mark.parametrize("command", PLANNED)
def test_dry_run_of_a_command(project, documents, command):
    planned = command if " -n" in command else f"{command} -n"
    printed = typed(project, planned.replace(" -n", " -n --quiet rules"))  # what follows `--` is no option
    for rule, jobs in PLANNED[command].items():
        assert re.search(rf"^{rule} +{jobs}$", printed, re.MULTILINE), printed


def test_plan_of_an_overlay_is_made_without_network_and_data(project):
    typed(project, PLAN)
    page = (project.folder / "results/replay/plan.md").read_text()
    assert "| replay-25 | 400M | 3.209 |" in page and "| fineweb | hub | 1 | unknown |" in page


@pytest.mark.parametrize("command", OUTPUTS)
def test_outputs_of_a_command(project, command):
    typed(project, on_smoke(command))
    for pattern in OUTPUTS[command]:
        (path,) = project.folder.glob(pattern)
        assert path.stat().st_size > 1000


def test_one_figure_is_drawn_again_from_copied_results(project, tmp_path):
    clone = Project(tmp_path / "clone")  # in the finished project, rules after the figure would run next
    results = clone.folder / "results/smoke"
    shutil.copytree(project.folder / "results/smoke", results)  # with their time stamps
    figure = results / "figures/figure2.svg"
    before, content = figure.stat().st_mtime_ns, figure.read_bytes()
    assert re.search(r"^total +1$", typed(clone, on_smoke(REDRAW)), re.MULTILINE)
    assert figure.stat().st_mtime_ns > before and figure.read_bytes() == content
    shutil.rmtree(results)
    printed = typed(clone, on_smoke(REDRAW), "-n", "--quiet", "rules")
    assert re.search(r"^train +2$", printed, re.MULTILINE), printed


def test_models_are_uploaded_with_their_cards(project, monkeypatch, tmp_path):
    clone = Project(tmp_path / "clone")  # the finished project would get another merged config
    shutil.copytree(project.folder / "results/smoke", clone.folder / "results/smoke")
    with UploadServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_made_up")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # scoring sets it
        printed = typed(clone, on_smoke(UPLOAD), "base={license: mit}")
    assert re.search(r"^push_run +2$", printed, re.MULTILINE), printed
    assert set(hub.stored) == {"OWNER/NAME-cpt-16K", "OWNER/NAME-cpt-40K"} and hub.private
    released = clone.folder / "results/smoke/released" / hub.repository.removeprefix("OWNER/NAME-")
    files = {path.name for path in released.iterdir() if not path.name.startswith(".snakemake")}
    assert set(hub.files) == files > {"README.md", "model.safetensors"}
    assert all(hub.files[name] == (released / name).read_bytes() for name in files)
    assert "hf_made_up" not in printed


def test_make_test_runs_these_tests(project):
    assert project.make("--dry-run", "test").strip() == ".venv/bin/python -m pytest"
    assert "make test\n" in (ROOT / ".ci/run").read_text()
