"""Every command that README and docs show is typed here, in a copy of the project.

What would take hours or the demo's model runs on the smoke experiment, or as far as the plan of its jobs; the
demo itself under `make test-experiments`. What needs a cluster is typed on a real Slurm, in tests/slurm.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import Project
from small_experiments import OWN_TEXT, overlay
from tests.test_documents import COMMANDS, ROOT
from upload_server import UploadServer

# The smoke experiment in the place of the demo's, and of the paper's run.
ON_SMOKE = {
    "experiments/demo.yaml": "experiments/smoke.yaml",
    "results/demo/released/cpt-41K": "results/smoke/released/cpt-40K",
    "results/demo": "results/smoke",
    "results/checkpoints/cpt-400M": "results/smoke/runs/cpt-16K",
    "cpt-400M": "cpt-16K",
    "400000000": "16384",
}
PLANNED = {  # command: some of the jobs that its plan has
    "snakemake --configfile experiments/demo.yaml --config 'runs={cpt-8K: {tokens: 8192, cpus: 2}}' -n": {
        "train": 3,
        "download": 3,
    },
    "snakemake --configfile experiments/schedules.yaml -n -- results/schedules/figures/schedules.pdf": {
        "plan_run": 3,
        "schedules": 1,
    },
    "snakemake --configfile experiments/mine.yaml -n": {"filter_documents": 4, "train": 1},
    "snakemake --configfile experiments/mine.yaml --cores 8": {"filter_documents": 4, "train": 1},
    "snakemake --configfile experiments/openstax.yaml --cores 2": {"train": 4, "evaluate_tasks_1": 5},
}
PLAN = "snakemake results/replay/plan.md --cores 1 --configfile experiments/replay.yaml"
MADE = {  # command: what it makes, on the smoke experiment
    "snakemake --configfile experiments/demo.yaml --cores 2 results/demo/provenance.json": (
        "results/smoke/provenance.json",
        "results/smoke/ro-crate-metadata.json",
    ),
    "python scripts/figure1.py --metrics results/checkpoints/cpt-400M/metrics.csv "
    """--runs '{"cpt-400M": 400000000}' --figure live.png""": ("live.png",),
    "python scripts/tensorboard_log.py --results results/demo": (
        "results/smoke/tensorboard/cpt-16K/events.out.tfevents.*",
        "results/smoke/tensorboard/cpt-40K/events.out.tfevents.*",
    ),
}
ON_SLURM = ("tests/slurm/test_slurm_run.py", 'for command in COMMANDS if "--profile slurm" in command')
FIRST_RUN = ("tests/train/test_train_gpu_first_run.py", '[("first", 5, 480), ("second", 6, 270)]')
ELSEWHERE = {  # command: the file that types it, and where
    "make demo": ("tests/workflow/conftest.py", 'project.make("demo", '),
    "snakemake report --cores 1 --configfile experiments/demo.yaml": (
        "tests/workflow/test_workflow_report.py",
        'project.snakemake("report", *SMOKE)',
    ),
    "OUT=first-run benchmarks/gpu_first_run.sh first": FIRST_RUN,
    "OUT=first-run benchmarks/gpu_first_run.sh second": FIRST_RUN,
    "snakemake --profile slurm preflight": ON_SLURM,
    "snakemake --profile slurm -n results/table1.csv": ON_SLURM,
    "snakemake --profile slurm results/table1.csv": ON_SLURM,
}
TEST = "make test"
REDRAW = "snakemake figure2 --forcerun figure2 --cores 1 --configfile experiments/demo.yaml"
UPLOAD = "hf upload OWNER/NAME results/demo/released/cpt-41K . --exclude '.snakemake*'"


def typed(project: Project, command: str, *more: str) -> str:
    """Type a command in the project's folder; returns what it printed."""
    program, *words = shlex.split(command)
    return project.run([f".venv/bin/{program}", *words, *more])


def on_smoke(command: str) -> str:
    """The command, asked of the finished smoke experiment."""
    for old, new in ON_SMOKE.items():
        command = command.replace(old, new)
    return command


def test_each_command_is_typed_by_a_test():
    known = {*PLANNED, PLAN, *MADE, *ELSEWHERE, TEST, REDRAW, UPLOAD}
    assert {command.removeprefix(".venv/bin/") for command in COMMANDS} == known
    for command, (file, call) in ELSEWHERE.items():
        assert call in (ROOT / file).read_text(), command


@pytest.fixture(scope="module")
def documents(project) -> Path:
    """The files that the overlays of own text and of textbooks take."""
    (project.folder / "experiments/mine.yaml").write_text(yaml.safe_dump(overlay(OWN_TEXT)))
    for name in ("data/handbook/a.md", "data/handbook/b/c.md", "data/openstax/a.parquet"):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text("Some words.\n")
    return project.folder / "data"


@pytest.mark.parametrize("command", PLANNED)
def test_what_a_command_would_run(project, documents, command):
    planned = command if " -n" in command else f"{command} -n"
    printed = typed(project, planned.replace(" -n", " -n --quiet rules"))  # what follows `--` is no option
    for rule, jobs in PLANNED[command].items():
        assert re.search(rf"^{rule} +{jobs}$", printed, re.MULTILINE), printed


def test_plan_of_an_overlay_is_made_without_network_and_data(project):
    typed(project, PLAN)
    page = (project.folder / "results/replay/plan.md").read_text()
    assert "| replay-25 | 400M | 3.209 |" in page and "| fineweb | hub | 1 | unknown |" in page


@pytest.mark.parametrize("command", MADE)
def test_what_a_command_makes(project, command):
    typed(project, on_smoke(command))
    for pattern in MADE[command]:
        (path,) = project.folder.glob(pattern)
        assert path.stat().st_size > 1000


def test_one_figure_is_made_again_from_copied_results(project, tmp_path):
    clone = Project(tmp_path / "clone")  # in the finished project, what depends on the figure would be due
    results = clone.folder / "results/smoke"
    shutil.copytree(project.folder / "results/smoke", results)  # with their time stamps
    figure = results / "figures/figure2.svg"
    before, made = figure.stat().st_mtime_ns, figure.read_bytes()
    assert re.search(r"^total +1$", typed(clone, on_smoke(REDRAW)), re.MULTILINE)
    assert figure.stat().st_mtime_ns > before and figure.read_bytes() == made
    shutil.rmtree(results)
    printed = typed(clone, on_smoke(REDRAW), "-n", "--quiet", "rules")
    assert re.search(r"^train +2$", printed, re.MULTILINE), printed


def test_model_is_uploaded_with_its_card(project, monkeypatch):
    with UploadServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_made_up")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # which scoring sets
        typed(project, on_smoke(UPLOAD))
    released = project.folder / "results/smoke/released/cpt-40K"
    files = {path.name for path in released.iterdir() if not path.name.startswith(".snakemake")}
    assert hub.repository == "OWNER/NAME" and set(hub.files) == files > {"README.md", "model.safetensors"}
    assert all(hub.files[name] == (released / name).read_bytes() for name in files)
    assert json.loads(hub.files["config.json"])["model_type"] == "llama"


def test_make_test_is_what_runs_these_tests(project):
    assert project.make("--dry-run", "test").strip() == ".venv/bin/python -m pytest"
    assert "make test\n" in (ROOT / ".ci/run").read_text()
